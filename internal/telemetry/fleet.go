package telemetry

import (
	"context"
	"log/slog"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"narthex/internal/fleet"
)

// CountFleet maintains gauges of how the fleet stands. It counts after each pause until ctx ends. Every worker counts all
// churches and runs. While the registry doesn't answer, the last count stands.
func (t *Telemetry) CountFleet(
	ctx context.Context, standing func(context.Context) (fleet.Standing, error), pause time.Duration, log *slog.Logger,
) {
	gauge := func(name, help string, labels ...string) *prometheus.GaugeVec { // one that was never counted must not say 0
		vec := prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: name, Help: help + " Every worker reports all: aggregate with max."}, labels)
		t.Metrics.MustRegister(vec)
		return vec
	}
	churches := gauge("narthex_fleet_churches", "Churches, by the version of their schema.", "version")
	runs := gauge("narthex_fleet_runs", "Runs over the fleet that have not ended, by state.", "state")
	behind := gauge("narthex_fleet_behind_seconds",
		"For how long the church that has been behind longest is behind the schema of this worker's release; 0 if none is.")
	failed := gauge("narthex_fleet_failed_churches", "Churches that the newest run of their server could not change.")
	seen := map[int]int{}
	keepCounting(ctx, pause, log, "churches by schema version", func(ctx context.Context) error {
		now, err := standing(ctx)
		if err != nil {
			return err
		}
		for version := range seen {
			if now.Churches[version] == 0 {
				churches.DeleteLabelValues(strconv.Itoa(version))
			}
		}
		seen = now.Churches
		for version, n := range seen {
			churches.WithLabelValues(strconv.Itoa(version)).Set(float64(n))
		}
		for _, state := range fleet.Active {
			runs.WithLabelValues(string(state)).Set(float64(now.Runs[state]))
		}
		behind.WithLabelValues().Set(now.Behind.Seconds())
		failed.WithLabelValues().Set(float64(now.Failed))
		return nil
	})
}
