package telemetry

import (
	"context"
	"log/slog"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"narthex/internal/orphan"
)

// orphanCounter counts the orphans of each kind that sweeps have seen since a time. The registry implements it.
type orphanCounter interface {
	CountOrphans(ctx context.Context, since time.Time) (map[orphan.Kind]int, error)
}

// CountOrphans maintains a gauge of the orphans that recent sweeps have seen and that nobody keeps. It counts after each
// pause until ctx ends. Every worker counts all orphans, whichever worker did the sweep. While the registry doesn't
// answer, the last count stands.
func (t *Telemetry) CountOrphans(ctx context.Context, registry orphanCounter, pause time.Duration, log *slog.Logger) {
	seen := prometheus.NewGaugeVec(prometheus.GaugeOpts{
		Name: "orphans_seen", Help: "Orphans that sweeps have seen in the last two days and that are not kept, by kind.",
	}, []string{"kind"})
	t.Metrics.MustRegister(seen)
	keepCounting(ctx, pause, log, "orphans", func(ctx context.Context) error {
		counts, err := registry.CountOrphans(ctx, time.Now().Add(-orphan.Fresh))
		if err != nil {
			return err
		}
		for _, kind := range orphan.Kinds {
			seen.WithLabelValues(string(kind)).Set(float64(counts[kind]))
		}
		return nil
	})
}
