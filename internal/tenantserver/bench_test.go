package tenantserver_test

import (
	"testing"

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
