package teststack

import (
	"context"
	"errors"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"

	"go.temporal.io/sdk/activity"
	"go.temporal.io/sdk/interceptor"
	"go.temporal.io/sdk/temporal"

	"narthex/internal/invitation"
	"narthex/internal/signup"
)

// Fault is what happens to an attempt of an activity. It decides whether the activity runs at all and
// what Temporal is told.
type Fault func(run func() error) error

// ErrInjected is the cause of every injected failure.
var ErrInjected = errors.New("a fault of the test")

// The ways in which an attempt can go wrong.
var (
	// FailsBefore fails for good before the activity has done anything.
	FailsBefore Fault = func(func() error) error {
		return temporal.NewNonRetryableApplicationError(ErrInjected.Error(), "Injected", nil)
	}
	// FailsAfter fails for good after the activity has done its work.
	FailsAfter Fault = func(run func() error) error {
		_ = run()
		return temporal.NewNonRetryableApplicationError(ErrInjected.Error(), "Injected", nil)
	}
	// AnswerLost does the work, but Temporal never learns of it, as if the worker lost its connection.
	AnswerLost Fault = func(run func() error) error {
		_ = run()
		return activity.ErrResultPending
	}
	// FailsRetryablyAfter fails with a retryable error after the activity has done its work.
	FailsRetryablyAfter Fault = func(run func() error) error { _ = run(); return ErrInjected }
	// Killed ends the worker's process, without a chance to clean up, after the activity has done its work.
	Killed Fault = func(run func() error) error { _ = run(); return syscall.Kill(os.Getpid(), syscall.SIGKILL) }
	// FailsRetryably fails with a retryable error.
	FailsRetryably Fault = func(func() error) error { return ErrInjected }
)

// Faults intercepts a worker's activities: it injects faults and records what ran.
type Faults struct {
	interceptor.WorkerInterceptorBase

	mu       sync.Mutex
	plan     map[string]func(attempt int) Fault // by activity; a nil fault means that the attempt runs normally
	done     []string                           // activities that succeeded, in order
	attempts map[string]int
	tenants  []string
}

func newFaults() *Faults {
	f := &Faults{}
	f.Reset()
	return f
}

// Reset forgets the plan and the record.
func (f *Faults) Reset() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.plan, f.done, f.attempts, f.tenants = map[string]func(int) Fault{}, nil, map[string]int{}, nil
}

// Always injects a fault into every attempt of an activity.
func (f *Faults) Always(name string, what Fault) { f.Set(name, func(int) Fault { return what }) }

// First injects a fault into the first n attempts of an activity.
func (f *Faults) First(n int, name string, what Fault) {
	f.Set(name, func(attempt int) Fault {
		if attempt <= n {
			return what
		}
		return nil
	})
}

// AsActivity makes a step's quick attempt fail, and injects a fault into the first attempt of the activity that
// replaces it.
func (f *Faults) AsActivity(name string, what Fault) {
	attempt := 0
	f.Set(name, func(int) Fault {
		attempt++
		return map[int]Fault{1: FailsRetryably, 2: what}[attempt]
	})
}

// Set decides the fault of each attempt of an activity.
func (f *Faults) Set(name string, plan func(attempt int) Fault) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.plan[name] = plan
}

// Succeeded returns the activities with these names that succeeded, in order.
func (f *Faults) Succeeded(names ...string) []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.DeleteFunc(slices.Clone(f.done), func(name string) bool { return !slices.Contains(names, name) })
}

// AttemptsOf returns how often an activity was tried.
func (f *Faults) AttemptsOf(name string) int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.attempts[name]
}

// TenantIDs returns the tenants whose signups ran, each once.
func (f *Faults) TenantIDs() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.tenants)
}

// InterceptActivity implements interceptor.WorkerInterceptor.
func (f *Faults) InterceptActivity(
	_ context.Context, next interceptor.ActivityInboundInterceptor,
) interceptor.ActivityInboundInterceptor {
	return &activityFaults{ActivityInboundInterceptorBase: interceptor.ActivityInboundInterceptorBase{Next: next}, faults: f}
}

type activityFaults struct {
	interceptor.ActivityInboundInterceptorBase
	faults *Faults
	silent atomic.Bool
}

// Init implements interceptor.ActivityInboundInterceptor.
func (a *activityFaults) Init(outbound interceptor.ActivityOutboundInterceptor) error {
	return a.ActivityInboundInterceptorBase.Init(&heartbeats{
		ActivityOutboundInterceptorBase: interceptor.ActivityOutboundInterceptorBase{Next: outbound}, silent: &a.silent,
	})
}

// heartbeats suppresses the heartbeats of attempts with a fault.
type heartbeats struct {
	interceptor.ActivityOutboundInterceptorBase
	silent *atomic.Bool
}

func (h *heartbeats) RecordHeartbeat(ctx context.Context, details ...any) {
	if !h.silent.Load() {
		h.Next.RecordHeartbeat(ctx, details...)
	}
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
		ctx = context.WithoutCancel(ctx) // a disconnected worker doesn't learn that its time is over,
		a.silent.Store(true)             // and Temporal gets no heartbeats from it
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

func (f *Faults) begin(name, tenantID string) Fault {
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

func (f *Faults) end(name string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.done = append(f.done, name)
}
