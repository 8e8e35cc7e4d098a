// Package process assembles Narthex's parts into the processes that the commands run: the API, the worker,
// or both on one Temporal client. It only decides the order in which they start and stop.
package process

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"go.temporal.io/sdk/client"

	"narthex/internal/config"
	"narthex/internal/redact"
	"narthex/internal/registry"
	"narthex/internal/secrets"
	"narthex/internal/telemetry"
)

const (
	registryPause = 2 * time.Second // between tries to reach the registry at the start
	registryLimit = 5 * time.Second // for each of them
)

// Config says what to run: the parts that are not nil.
type Config struct {
	config.Process

	// Promote makes the worker's release current even if a newer one is. For development.
	Promote bool
	// SpareLoopback throttles no client on this machine. For development.
	SpareLoopback bool

	Temporal client.Options
	Log      *slog.Logger // instead of Process.Log

	// Serving and Ready, if not nil, are called with the addresses on which the API ("" without one) and operations listen:
	// Serving when the API begins to answer, which needs no Temporal, and Ready once the worker, if there is one, takes work
	// too, or must wait for its release to be promoted.
	Serving func(http, operations string)
	Ready   func(http, operations string)
}

// process is what the parts of one process share.
type process struct {
	Config
	watch      *telemetry.Telemetry
	operations string // the address on which operators are served, or ""
	keys       *secrets.Keys
	registry   *registry.Registry
	temporal   client.Client
	current    currency
	closers    []func() // called last first
}

// Run runs c's parts until ctx ends, then stops them in order: HTTP, worker, client, databases. An API serves as soon as
// the registry and the keys are checked. A worker starts in the background once Temporal answers. The error is what kept
// the process from starting or made it end, including ctx's cause if that is more than a cancel.
func Run(ctx context.Context, c Config) error {
	ctx, fail := context.WithCancelCause(ctx)
	defer fail(nil)
	p := &process{Config: c}
	defer p.close()
	if err := p.open(ctx); err != nil {
		return err
	}
	if err := p.awaitRegistry(ctx); err != nil {
		return err
	}
	go p.watchNamespace(ctx)
	http, serve := "", untilEnd
	if c.API != nil { // before the worker: a process that cannot serve must not make its release current
		a, err := openAPI(ctx, p)
		if err != nil {
			return err
		}
		defer a.close()
		http, serve = a.address(), a.serve
	}
	ready := func() { p.announce(c.Ready, http) }
	start := ready
	if c.Worker != nil {
		w, err := openWorker(ctx, p, fail)
		if err != nil {
			return err
		}
		defer w.stop()
		start = func() { w.start(ctx, ready) }
	}
	if c.API != nil {
		p.announce(c.Serving, http)
	}
	start()
	return serve(ctx)
}

// open opens what the parts share. It connects to nothing.
func (p *process) open(ctx context.Context) (err error) {
	folding := telemetry.NewFolding(p.Log.Handler())
	p.Log = slog.New(folding) // for all parts: in an outage, everything that retries repeats its warnings
	p.atEnd(folding.Flush)
	p.watch, err = telemetry.Start(ctx, p.Log)
	if err != nil {
		return err
	}
	p.atEnd(p.watch.Stop)
	operations, stopOperations, err := serveOperations(p.Config, p.watch)
	if err != nil {
		return err
	}
	p.operations = operations
	p.atEnd(stopOperations)
	p.keys = secrets.New(p.SealKeyset, p.IndexKeyset)
	p.registry, err = registry.Open(ctx, string(p.RegistryURL), p.keys)
	if err != nil {
		return fmt.Errorf("the registry %s cannot be opened", p.RegistryURL)
	}
	p.atEnd(p.registry.Close)
	p.temporal, err = p.openTemporal()
	if err != nil {
		return err
	}
	p.atEnd(p.temporal.Close)
	return nil
}

func (p *process) atEnd(stop func()) { p.closers = append(p.closers, stop) }

func (p *process) close() {
	for _, stop := range slices.Backward(p.closers) {
		stop()
	}
}

// awaitRegistry waits for the registry, as long as it takes, and checks that it was written under this process's keys.
func (p *process) awaitRegistry(ctx context.Context) error {
	err := retry{
		warning: "The registry is not reachable yet", words: redact.Error, log: p.Log, pause: registryPause,
		final: func(err error) bool {
			return errors.Is(err, registry.ErrSealKeys) || errors.Is(err, registry.ErrIndexKeys) || errors.Is(err, registry.ErrNotMigrated)
		},
	}.do(ctx, func(ctx context.Context) error {
		ctx, cancel := context.WithTimeout(ctx, registryLimit)
		defer cancel()
		return p.registry.CheckKeys(ctx)
	})
	if ctx.Err() != nil {
		return errors.New("stopped before the registry could be reached")
	}
	return err
}

func (p *process) announce(to func(http, operations string), http string) {
	if to != nil {
		to(http, p.operations)
	}
}

// untilEnd waits for ctx to end, and returns the reason.
func untilEnd(ctx context.Context) error {
	<-ctx.Done()
	return whatEnded(ctx)
}

// whatEnded returns why ctx has ended, or nil for a plain cancel.
func whatEnded(ctx context.Context) error {
	if cause := context.Cause(ctx); !errors.Is(cause, context.Canceled) {
		return cause
	}
	return nil
}
