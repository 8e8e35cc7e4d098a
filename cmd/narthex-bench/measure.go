package main

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/crypto/bcrypt"
)

// The names by which --only knows the figures.
const (
	figureAlone  = "alone"
	figureEngine = "engine"
	figureBurst  = "burst"
	figureLogin  = "login"
	figureRead   = "read"
	figureGrowth = "growth"
	figureMemory = "memory"
	figureFleet  = "fleet"
)

var figureNames = []string{figureAlone, figureEngine, figureBurst, figureLogin, figureRead, figureGrowth, figureMemory, figureFleet}

const (
	fewTenants       = 10 // on the server when the first signups are measured
	growthSamples    = 40 // small, so that few tenants stay few
	loginsPerN       = 4
	loginsPerAccount = 10 // more are throttled; logins use few churches, because connections are limited too
	readsPerN        = 10 // reads per signup, because signups are that much slower
)

// bench is a run. A phase may use what an earlier one has measured.
type bench struct {
	flags
	progress func(string, ...any)
	stack    *stack
	api      *api
	plain    *plain
	report   *report

	durable, baseline *variant // signups alone, from the first phase

	mu       sync.Mutex
	churches []*church
}

// phase measures the figures of these names.
type phase struct {
	figures []string
	do      func(context.Context) error
}

// measure runs all phases that f asks for.
func measure(ctx context.Context, f flags, stack *stack, progress func(string, ...any)) (_ *report, err error) {
	b := &bench{flags: f, progress: progress, stack: stack, api: newAPI(stack.api)}
	b.plain, err = newPlain(ctx, stack.databases.TenantServerURL)
	if err != nil {
		return nil, err
	}
	defer b.plain.close()
	b.report, err = newReport(ctx, stack)
	if err != nil {
		return nil, err
	}
	stopNoop, err := startNoop(stack.temporal)
	if err != nil {
		return nil, err
	}
	defer stopNoop()
	phases := []phase{
		{nil, func(ctx context.Context) error { return b.fill(ctx, fewTenants) }}, // always
		{[]string{figureAlone, figureEngine, figureGrowth}, b.measureAlone},
		{[]string{figureBurst}, b.measureBursts},
		{[]string{figureLogin}, b.measureLogins},
		{[]string{figureRead}, b.measureReads},
		{[]string{figureGrowth}, b.measureGrowth},
		{[]string{figureMemory}, b.measureMemory},
		{[]string{figureFleet}, b.measureFleet}, // last: another release is current then
	}
	for _, p := range phases {
		if p.figures != nil && !slices.ContainsFunc(p.figures, b.wanted) {
			continue
		}
		if err := p.do(ctx); err != nil {
			return nil, fmt.Errorf("%w\n%s", err, stack.logTail())
		}
		if err := b.plain.forget(ctx); err != nil { // the server's tenants are Narthex's
			return nil, err
		}
	}
	return b.report, nil
}

func (b *bench) wanted(figure string) bool {
	return len(b.only) == 0 || slices.Contains(b.only, figure)
}

// add adds a figure to the report if it is wanted.
func (b *bench) add(name string, f figure) {
	if b.wanted(name) {
		b.report.figures = append(b.report.figures, f)
	}
}

func (b *bench) signedUp() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return len(b.churches)
}

// register signs a church up over HTTP, and keeps it.
func (b *bench) register(ctx context.Context) error {
	c, err := b.api.register(ctx)
	if err != nil {
		return err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.churches = append(b.churches, c)
	return nil
}

// fill signs churches up until there are n.
func (b *bench) fill(ctx context.Context, n int) error {
	if missing := n - b.signedUp(); missing > 0 {
		b.progress("Signing %d churches up.", missing)
		begun := time.Now()
		if err := together(ctx, missing, b.register); err != nil {
			return err
		}
		if missing > readySize {
			long := &variant{name: fmt.Sprintf("signup, 10 at once, %d back to back: Narthex over HTTP", missing)}
			long.burst.size, long.burst.rounds = missing, samples{time.Since(begun)}
			b.report.rates = append(b.report.rates, long)
		}
	}
	return b.stack.ready.full(ctx)
}

func (b *bench) measureAlone(ctx context.Context) error {
	b.progress("Signups one by one: the baseline's, Narthex's, and workflows that do nothing, in turn, %d of each.", b.samples)
	profiled, err := b.startProfile(ctx)
	if err != nil {
		return err
	}
	b.durable = &variant{name: "signup, alone: Narthex over HTTP", do: b.register}
	b.baseline = &variant{name: "signup, alone: baseline", do: b.plain.signUp}
	noop := &variant{
		name: "bcrypt and a workflow of 8 no-ops",
		do:   func(ctx context.Context) error { return hashAndRunNoop(ctx, b.stack.temporal) },
	}
	if err := alternate(ctx, b.samples, b.stack.ready.atRest, b.baseline, b.durable, noop); err != nil {
		return err
	}
	b.report.times = append(b.report.times, b.baseline, b.durable, noop)
	b.add(
		figureAlone,
		figure{what: "signup over HTTP, alone, p50 / the baseline's", value: ratio(b.durable.times.p50(), b.baseline.times.p50()), goal: 0.5},
	)
	b.add(
		figureAlone,
		figure{what: "signup over HTTP, alone, p95 / the baseline's", value: ratio(b.durable.times.p95(), b.baseline.times.p95()), goal: 0.6},
	)
	b.add(
		figureEngine,
		figure{what: "signup / bcrypt and a workflow of 8 no-ops, p50", value: ratio(b.durable.times.p50(), noop.times.p50()), goal: 1.3},
	)
	return profiled()
}

func (b *bench) measureBursts(ctx context.Context) error {
	b.progress("Signups, %d at once.", atOnce)
	baseline := &variant{name: "signup, 10 at once: baseline", do: b.plain.signUp}
	durable := &variant{name: "signup, 10 at once: Narthex over HTTP", do: b.register}
	if err := alternateBursts(ctx, b.samples, b.stack.ready.full, baseline, durable); err != nil {
		return err
	}
	b.report.rates = append(b.report.rates, baseline, durable)
	b.add(
		figureBurst,
		figure{
			what:    "signups a second, 10 at once / the baseline's",
			value:   ratio(durable.burst.perSecond(), baseline.burst.perSecond()),
			goal:    2,
			atLeast: true,
		},
	)
	return nil
}

func (b *bench) measureLogins(ctx context.Context) error {
	accounts := (max(loginsPerN*b.samples, atOnce) + loginsPerAccount - 1) / loginsPerAccount
	if err := b.fill(ctx, accounts); err != nil {
		return err
	}
	b.progress("Logins, %d at once.", atOnce)
	hash, err := bcrypt.GenerateFromPassword([]byte(password), passwordCost)
	if err != nil {
		return err
	}
	few, rest := inTurn(b.churches[:accounts]), b.churches[accounts:]
	alone := &variant{
		name: "bcrypt, 10 at once",
		do:   func(context.Context) error { return bcrypt.CompareHashAndPassword(hash, []byte(password)) },
	}
	login := &variant{
		name: fmt.Sprintf("login, 10 at once, to %d churches", accounts),
		do:   func(ctx context.Context) error { return b.api.login(ctx, few()) },
	}
	if err := alternateBursts(ctx, loginsPerN*b.samples, noRest, alone, login); err != nil {
		return err
	}
	b.report.rates = append(b.report.rates, alone, login)
	if len(rest) >= burstSize {
		turns := inTurn(rest)
		cold := &variant{
			name: "login, 10 at once, over new connections",
			do:   func(ctx context.Context) error { return b.api.login(ctx, turns()) },
		}
		if err := alternateBursts(ctx, len(rest), noRest, cold); err != nil {
			return err
		}
		b.report.rates = append(b.report.rates, cold)
	}
	b.add(
		figureLogin,
		figure{
			what:    "logins a second, 10 at once / bcrypt alone",
			value:   ratio(login.burst.perSecond(), alone.burst.perSecond()),
			goal:    0.9,
			atLeast: true,
		},
	)
	return nil
}

// inTurn returns a function that returns the churches in turn, because one account's logins are throttled.
func inTurn(churches []*church) func() *church {
	var next atomic.Int64
	return func() *church { return churches[int(next.Add(1)-1)%len(churches)] }
}

// measureGrowth fills the server with tenants, and compares signups then with the first ones.
func (b *bench) measureGrowth(ctx context.Context) error {
	if err := b.fill(ctx, b.tenants); err != nil {
		return err
	}
	there, n := b.signedUp(), min(b.samples, growthSamples)
	b.progress("Signups one by one, with %d tenants on the server.", there)
	late := &variant{name: fmt.Sprintf("signup, alone, %d tenants: Narthex over HTTP", there), do: b.register}
	baseline := &variant{name: fmt.Sprintf("signup, alone, %d tenants: baseline", there), do: b.plain.signUp}
	if err := alternate(ctx, n, b.stack.ready.atRest, baseline, late); err != nil {
		return err
	}
	b.report.times = append(b.report.times, baseline, late)
	few, fewBaseline := b.durable.times[:n], b.baseline.times[:n]
	b.add(
		figureGrowth,
		figure{what: fmt.Sprintf("signup p50, %d tenants on the server / the first %d, from %d tenants on", there, n, fewTenants),
			value: ratio(late.times.p50(), few.p50()), goal: 1.2},
	)
	b.add(figureGrowth, figure{what: "the same of the baseline", value: ratio(baseline.times.p50(), fewBaseline.p50())})
	return nil
}

// measureMemory reads from each church, and then measures how much memory that has taken.
func (b *bench) measureMemory(ctx context.Context) error {
	if err := b.fill(ctx, b.tenants); err != nil {
		return err
	}
	b.progress("A read in each of %d churches.", b.signedUp())
	turns := inTurn(b.churches)
	err := together(ctx, b.signedUp(), func(ctx context.Context) error {
		c := turns()
		if err := b.api.renew(ctx, c); err != nil {
			return err
		}
		return b.api.me(ctx, c)
	})
	if err != nil {
		return err
	}
	resident, err := residentMemory(b.stack.serve.PID())
	if err != nil {
		return err
	}
	b.add(figureMemory, figure{what: fmt.Sprintf("memory (RSS) of API and worker after %d signups and a read in each church", b.signedUp()),
		value: resident, unit: " MiB", goal: 150})
	return nil
}
