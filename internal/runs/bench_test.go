package runs_test

import (
	"slices"
	"testing"
	"time"

	"go.temporal.io/sdk/activity"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/worker"
	"go.temporal.io/sdk/workflow"

	"narthex/internal/dev/testenv"
	"narthex/internal/ids"
	"narthex/internal/saga"
)

// BenchmarkOutcomeAtTheEnd compares sagas of eight quick steps that do nothing. Some record their outcome at the end, the
// others started with it and record nothing. They take turns.
func BenchmarkOutcomeAtTheEnd(b *testing.B) {
	c := dial(b, testenv.Keys(b))
	var eight []saga.Step
	for range 8 {
		eight = append(eight, saga.Step{Do: "nothing"})
	}
	queue := ids.New()
	w := worker.New(c, queue, worker.Options{})
	w.RegisterActivityWithOptions(func(thing) error { return nil }, activity.RegisterOptions{Name: "nothing"})
	w.RegisterWorkflowWithOptions(func(ctx workflow.Context, in thing) error {
		s := saga.New(eight, in, saga.Options{TenantID: in.TenantID})
		s.RunQuickly()
		for _, step := range eight {
			if err := s.Do(ctx, step); err != nil {
				return err
			}
		}
		s.Complete(ctx)
		return nil
	}, workflow.RegisterOptions{Name: "eight"})
	if err := w.Start(); err != nil {
		b.Fatal(err)
	}
	defer w.Stop()

	took := map[string][]time.Duration{}
	for b.Loop() {
		for _, outcome := range []string{saga.OutcomeRunning, saga.OutcomeCompleted} {
			in := thing{ids.New()}
			attributes := temporal.NewSearchAttributes(saga.TenantID.ValueSet(in.TenantID), saga.Outcome.ValueSet(outcome))
			began := time.Now()
			run, err := c.ExecuteWorkflow(b.Context(), client.StartWorkflowOptions{TaskQueue: queue, TypedSearchAttributes: attributes}, "eight", in)
			if err == nil {
				err = run.Get(b.Context(), nil)
			}
			if err != nil {
				b.Fatal(err)
			}
			took[outcome] = append(took[outcome], time.Since(began))
		}
	}
	recorded, unrecorded := median(took[saga.OutcomeRunning]), median(took[saga.OutcomeCompleted])
	b.ReportMetric(recorded.Seconds()*1000, "ms/recorded")
	b.ReportMetric(unrecorded.Seconds()*1000, "ms/unrecorded")
	b.ReportMetric(float64(recorded)/float64(unrecorded), "ratio")
}

func median(all []time.Duration) time.Duration {
	slices.Sort(all)
	return all[len(all)/2]
}
