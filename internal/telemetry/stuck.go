package telemetry

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.temporal.io/api/workflowservice/v1"
	"go.temporal.io/sdk/client"

	"narthex/internal/saga"
)

// CountStuck maintains a gauge of the rollbacks on a task queue that are stuck now. It counts after each pause until
// ctx ends. Every worker counts all of them. While Temporal doesn't answer, the last count stands.
func (t *Telemetry) CountStuck(ctx context.Context, temporal client.Client, taskQueue string, pause time.Duration, log *slog.Logger) {
	stuck := prometheus.NewGaugeVec(prometheus.GaugeOpts{ // without labels: one that was never counted must not say 0
		Name: "narthex_rollbacks_stuck", Help: "Rollbacks that are stuck now: a compensation has failed for over a minute.",
	}, nil)
	t.Metrics.MustRegister(stuck)
	query := fmt.Sprintf("%s = '%s' AND ExecutionStatus = 'Running' AND TaskQueue = '%s'",
		saga.Outcome.GetName(), saga.OutcomeRollbackStuck, taskQueue)
	keepCounting(ctx, pause, log, "rollbacks that are stuck", func(ctx context.Context) error {
		counted, err := temporal.CountWorkflow(ctx, &workflowservice.CountWorkflowExecutionsRequest{Query: query})
		if err != nil {
			return fmt.Errorf("count stuck rollbacks: %w", err)
		}
		stuck.WithLabelValues().Set(float64(counted.GetCount()))
		return nil
	})
}
