package httpapi_test

import (
	"context"
	"errors"
	"slices"
	"sync"

	"go.temporal.io/sdk/activity"
	"go.temporal.io/sdk/interceptor"
	"go.temporal.io/sdk/temporal"

	"narthex/internal/invitation"
	"narthex/internal/signup"
)

// fault is what becomes of an attempt of an activity: it decides whether the activity runs at all and
// what Temporal hears of it.
type fault func(run func() error) error

var errInjected = errors.New("a fault of the test")

// The ways in which an attempt can go wrong.
var (
	// failsBefore fails for good before the activity has done anything.
	failsBefore fault = func(func() error) error {
		return temporal.NewNonRetryableApplicationError(errInjected.Error(), "Injected", nil)
	}
	// failsAfter fails for good after the activity has done its work.
	failsAfter fault = func(run func() error) error {
		_ = run()
		return temporal.NewNonRetryableApplicationError(errInjected.Error(), "Injected", nil)
	}
	// answerLost does the work, and Temporal never hears of it, as when a worker is cut off.
	answerLost fault = func(run func() error) error {
		_ = run()
		return activity.ErrResultPending
	}
	// failsRetryably fails in a way that is worth another attempt.
	failsRetryably fault = func(func() error) error { return errInjected }
)

// faults intercepts a worker's activities: it injects faults and records what ran.
type faults struct {
	interceptor.WorkerInterceptorBase

	mu       sync.Mutex
	plan     map[string]func(attempt int) fault // by activity; nil for an attempt runs it as it is
	done     []string                           // activities that ended well, in order
	attempts map[string]int
	tenants  []string
}

func newFaults() *faults {
	f := &faults{}
	f.reset()
	return f
}

// reset forgets the plan and the record.
func (f *faults) reset() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.plan, f.done, f.attempts, f.tenants = map[string]func(int) fault{}, nil, map[string]int{}, nil
}

// always injects a fault into every attempt of an activity, first into its first n.
func (f *faults) always(name string, what fault) { f.set(name, func(int) fault { return what }) }

func (f *faults) first(n int, name string, what fault) {
	f.set(name, func(attempt int) fault {
		if attempt <= n {
			return what
		}
		return nil
	})
}

// asActivity has a step's quick attempt fail, and injects a fault into the first attempt of the activity that
// it becomes.
func (f *faults) asActivity(name string, what fault) {
	attempt := 0
	f.set(name, func(int) fault {
		attempt++
		return map[int]fault{1: failsRetryably, 2: what}[attempt]
	})
}

func (f *faults) set(name string, plan func(attempt int) fault) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.plan[name] = plan
}

// succeeded returns the activities of these names that ended well, in order.
func (f *faults) succeeded(names ...string) []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.DeleteFunc(slices.Clone(f.done), func(name string) bool { return !slices.Contains(names, name) })
}

func (f *faults) attemptsOf(name string) int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.attempts[name]
}

// tenantIDs returns the tenants whose signups ran, each once.
func (f *faults) tenantIDs() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.tenants)
}

func (f *faults) InterceptActivity(ctx context.Context, next interceptor.ActivityInboundInterceptor) interceptor.ActivityInboundInterceptor {
	return &activityFaults{ActivityInboundInterceptorBase: interceptor.ActivityInboundInterceptorBase{Next: next}, faults: f}
}

type activityFaults struct {
	interceptor.ActivityInboundInterceptorBase
	faults *faults
}

func (a *activityFaults) ExecuteActivity(ctx context.Context, in *interceptor.ExecuteActivityInput) (any, error) {
	name := activity.GetInfo(ctx).ActivityType.Name
	tenantID := ""
	for _, arg := range in.Args {
		switch input := arg.(type) {
		case signup.StepInput:
			tenantID = input.TenantID
		case invitation.StepInput:
			tenantID = input.TenantID
		}
	}
	what := a.faults.begin(name, tenantID)
	if what == nil {
		what = func(run func() error) error { return run() }
	} else {
		ctx = context.WithoutCancel(ctx) // a worker that is cut off is not told that its time is over
	}
	var result any
	err := what(func() (err error) {
		result, err = a.Next.ExecuteActivity(ctx, in)
		return err
	})
	if err == nil {
		a.faults.end(name)
	}
	return result, err
}

func (f *faults) begin(name, tenantID string) fault {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.attempts[name]++
	if !slices.Contains(f.tenants, tenantID) {
		f.tenants = append(f.tenants, tenantID)
	}
	if plan := f.plan[name]; plan != nil {
		return plan(f.attempts[name])
	}
	return nil
}

func (f *faults) end(name string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.done = append(f.done, name)
}
