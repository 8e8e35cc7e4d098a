package tenantserver_test

import (
	"errors"
	"strconv"
	"testing"

	"golang.org/x/sync/errgroup"

	"narthex/internal/ids"
	"narthex/internal/tenantserver"
)

// BenchmarkDatabase is what a signup waits for its database, migrated and all, by how it comes by it. The server
// writes nothing through to the disk.
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
				for source == tenantserver.FromStock && len(s.ids) < 2 { // none is claimed while its maker is still leaving it
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
