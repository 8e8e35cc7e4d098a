package telemetry

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.temporal.io/api/workflowservice/v1"
	"go.temporal.io/sdk/client"

	"narthex/internal/redact"
	"narthex/internal/saga"
)

const countLimit = 10 * time.Second

// CountStuck keeps a gauge of the rollbacks on a task queue that are stuck now, counting after each pause until ctx
// ends. Every worker counts all of them. While Temporal doesn't answer, the last count stands.
func (t *Telemetry) CountStuck(ctx context.Context, temporal client.Client, taskQueue string, pause time.Duration, log *slog.Logger) {
	stuck := prometheus.NewGauge(prometheus.GaugeOpts{
		Name: "narthex_rollbacks_stuck", Help: "Rollbacks that are stuck now: a compensation has failed for over a minute.",
	})
	query := fmt.Sprintf("%s = '%s' AND ExecutionStatus = 'Running' AND TaskQueue = '%s'", saga.Outcome.GetName(), saga.OutcomeRollbackStuck, taskQueue)
	registered := false
	for {
		counted, err := count(ctx, temporal, query)
		if err == nil {
			stuck.Set(float64(counted))
			if !registered { // a gauge that was never counted must not say 0
				t.Metrics.MustRegister(stuck)
				registered = true
			}
		} else if ctx.Err() == nil {
			log.Warn("The rollbacks that are stuck could not be counted; trying again", "error", redact.Error(err))
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(pause):
		}
	}
}

func count(ctx context.Context, temporal client.Client, query string) (int64, error) {
	ctx, cancel := context.WithTimeout(ctx, countLimit)
	defer cancel()
	answer, err := temporal.CountWorkflow(ctx, &workflowservice.CountWorkflowExecutionsRequest{Query: query})
	if err != nil {
		return 0, fmt.Errorf("count stuck rollbacks: %w", err)
	}
	return answer.GetCount(), nil
}
