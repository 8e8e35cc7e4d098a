package tenantserver_test

import (
	"errors"
	"strconv"
	"testing"

	"golang.org/x/sync/errgroup"

	"narthex/internal/ids"
	"narthex/internal/tenantserver"
)

// BenchmarkDatabase measures how long a signup waits for its migrated database, by the source of the database. The server
// doesn't sync to disk.
func BenchmarkDatabase(b *testing.B) {
	for _, source := range []tenantserver.Source{tenantserver.FromNothing, tenantserver.FromTemplate, tenantserver.FromStock} {
		b.Run(string(source), func(b *testing.B) {
			h := newHost(b)
			if source != tenantserver.FromNothing {
				h.ensureTemplate()
			}
			var s shelf
			for b.Loop() {
				b.StopTimer()
				for source == tenantserver.FromStock && len(s.ids) < 2 { // a database can't be claimed while its maker is still disconnecting
					id := ids.New()
					if err := h.server.MakeReady(b.Context(), id); err != nil {
						b.Fatal(err)
					}
					s.ids = append(s.ids, id)
				}
				b.StartTimer()
				d := h.claim(&s, source)
				if err := h.server.Migrate(b.Context(), d); err != nil {
					b.Fatal(err)
				}
				b.StopTimer()
				drop(b, h.server, d)
				b.StartTimer()
			}
		})
	}
}

// BenchmarkCompare compares churches' databases with the newest schema, one at a time and four at once.
func BenchmarkCompare(b *testing.B) {
	h := newHost(b)
	h.ensureTemplate()
	churches := make(chan string, 20)
	for range cap(churches) {
		churches <- h.make().Name()
	}
	c := h.server.Comparer(b.Context())
	for _, atOnce := range []int{1, 4} {
		b.Run(strconv.Itoa(atOnce), func(b *testing.B) {
			var group errgroup.Group
			group.SetLimit(atOnce)
			for b.Loop() {
				group.Go(func() error {
					name := <-churches
					defer func() { churches <- name }()
					differences, err := c.Compare(b.Context(), name)
					if err == nil && len(differences) > 0 {
						err = errors.New(differences[0].String())
					}
					return err
				})
			}
			if err := group.Wait(); err != nil {
				b.Fatal(err)
			}
		})
	}
}
