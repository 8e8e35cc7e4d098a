// Package process wires Narthex's parts into the processes that the commands run: the API, the worker,
// or both on one Temporal client. It decides nothing but the order in which they start and stop.
package process

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/contrib/envconfig"
	"go.temporal.io/sdk/log"
	"go.temporal.io/sdk/worker"

	"narthex/activities"
	"narthex/internal/codec"
	"narthex/internal/config"
	"narthex/internal/fleet/ledger"
	"narthex/internal/orphan"
	"narthex/internal/readydb"
	"narthex/internal/redact"
	"narthex/internal/registry"
	"narthex/internal/secrets"
	"narthex/internal/telemetry"
	"narthex/internal/tenantserver"
	"narthex/migrations"
	"narthex/workflows"
)

// How long a stop waits: for requests in hand, beyond the time that they may wait for a signup, and for
// activities.
const (
	httpDrain   = 5 * time.Second
	workerDrain = 15 * time.Second
)

// answerLimit is how long the servers behind a request may take, and tidyPause how long the registry's
// expired rows are left alone.
const (
	answerLimit = 5 * time.Second
	tidyPause   = 10 * time.Minute
)

const countPause = 30 * time.Second // between counts of what is stuck, and of orphans

const (
	maxHeader   = 16 << 10         // bytes of a request's header
	readTimeout = 30 * time.Second // of a request with its body
)

// Config says what to run: the parts that are not nil.
type Config struct {
	config.Process

	// Promote makes the worker's release current though a newer one is. For development.
	Promote bool
	// SpareLoopback throttles no client on this machine. For development.
	SpareLoopback bool

	Temporal client.Options
	Log      *slog.Logger // in place of Process.Log
	// Ready, if not nil, is called once everything answers, with the addresses that the API and operations
	// listen on.
	Ready func(http, operations string)
}

// TemporalOptions returns how to reach Temporal, from TEMPORAL_ADDRESS and its like.
func TemporalOptions() (client.Options, error) {
	options, err := envconfig.LoadDefaultClientOptions()
	if err != nil {
		return client.Options{}, fmt.Errorf("the Temporal client's configuration (TEMPORAL_…) is not valid: %w", err)
	}
	if options.HostPort == "" {
		return client.Options{}, errors.New("TEMPORAL_ADDRESS is not set: it is where Temporal answers, like 127.0.0.1:7233")
	}
	return options, nil
}

// Run runs what c says until ctx ends, then stops it in order: HTTP, worker, client, databases. Its
// error is what kept it from starting or made it end: also ctx's cause, where that is more than a
// cancel.
func Run(ctx context.Context, c Config) error {
	ctx, fail := context.WithCancelCause(ctx)
	defer fail(nil)
	watch, err := telemetry.Start(ctx, c.Log)
	if err != nil {
		return err
	}
	defer watch.Stop()
	operations, stopOperations, err := serveOperations(c, watch)
	if err != nil {
		return err
	}
	defer stopOperations()
	keys := secrets.New(c.Keys.SealKeyset, c.Keys.IndexKeyset)
	reg, err := registry.Open(ctx, string(c.Registry.RegistryURL), keys)
	if err != nil {
		return fmt.Errorf("the registry %s cannot be opened", c.Registry.RegistryURL)
	}
	defer reg.Close()

	folding := telemetry.NewFolding(c.Log.Handler()) // an outage makes the SDK repeat itself
	defer folding.Flush()
	c.Temporal.Logger = log.NewStructuredLogger(slog.New(folding))
	codec.Seal(&c.Temporal, keys)
	if err := watch.Instrument(&c.Temporal); err != nil {
		return fmt.Errorf("the Temporal client cannot be traced: %w", err)
	}
	temporal, err := client.NewLazyClient(c.Temporal)
	if err != nil {
		return fmt.Errorf("the Temporal client cannot be made: %w", err)
	}
	defer temporal.Close()

	if err := awaitKeys(ctx, reg, c.Log); err != nil {
		return err
	}
	var current currency
	var api *api // before the worker: a process that cannot serve must not make its release current
	if c.API != nil {
		if api, err = openAPI(ctx, c, watch, temporal, reg, keys, &current); err != nil {
			return err
		}
		defer api.close()
	}
	if c.Worker != nil {
		stop, err := startWorker(ctx, c, temporal, reg, keys, &current, fail)
		if err != nil {
			return err
		}
		defer stop()
		go watch.CountStuck(ctx, temporal, string(c.Queue.TaskQueue), countPause, slog.New(folding))
		go watch.CountOrphans(ctx, reg, countPause, slog.New(folding))
	}
	if api != nil {
		return api.serve(ctx, c, operations)
	}
	if c.Ready != nil {
		c.Ready("", operations)
	}
	<-ctx.Done()
	return whatEnded(ctx)
}

// awaitKeys checks that the registry was written under this process's keys, waiting for it as long as it
// takes.
func awaitKeys(ctx context.Context, reg *registry.Registry, log *slog.Logger) error {
	for {
		err := reg.CheckKeys(ctx)
		if err == nil || errors.Is(err, registry.ErrSealKeys) || errors.Is(err, registry.ErrIndexKeys) || errors.Is(err, registry.ErrNotMigrated) {
			return err
		}
		log.Warn("The registry is not reachable yet; trying again", "error", redact.Error(err))
		if !pause(ctx, 2*time.Second) {
			return errors.New("stopped before the registry could be reached")
		}
	}
}

// pause waits, and reports whether ctx has let it.
func pause(ctx context.Context, d time.Duration) bool {
	select {
	case <-ctx.Done():
		return false
	case <-time.After(d):
		return true
	}
}

// whatEnded returns why ctx has ended, nil where somebody just asked for it.
func whatEnded(ctx context.Context) error {
	if cause := context.Cause(ctx); !errors.Is(cause, context.Canceled) {
		return cause
	}
	return nil
}

func startWorker(ctx context.Context, c Config, temporal client.Client, reg *registry.Registry, keys *secrets.Keys, current *currency, fail context.CancelCauseFunc) (stop func(), err error) {
	deployment, err := OpenDeployment(temporal, c.Queue, c.Worker.Release)
	if err != nil {
		return nil, err
	}
	servers, closeServers, err := openServers(ctx, c.Worker, reg)
	if err != nil {
		return nil, err
	}
	w := worker.New(temporal, string(c.Queue.TaskQueue), worker.Options{
		WorkerStopTimeout: workerDrain,
		DeploymentOptions: deployment.Options(),
		OnFatalError:      func(err error) { fail(fmt.Errorf("the worker cannot go on: %w", err)) },
	})
	(&workflows.Workflows{Server: servers[0].Name()}).Register(w)
	w.RegisterActivity(&activities.Activities{Registry: reg, Server: servers[0], Others: servers[1:], Keys: keys, Temporal: temporal, Ledger: ledger.New(reg.Pool()),
		ReadyDatabases: int(c.Worker.ReadyDatabases), Now: time.Now})
	if err := startWhenReachable(ctx, w, c.Log); err != nil {
		closeServers()
		return nil, err
	}
	stop = func() {
		w.Stop()
		closeServers()
	}
	if err := settle(ctx, c, deployment, current); err != nil {
		stop()
		return nil, err
	}
	if c.API != nil {
		go current.watch(ctx, deployment)
	}
	for what, do := range map[string]func() error{
		"template of tenants' databases":      func() error { return servers[0].EnsureTemplate(ctx) }, // until it is there they are made without
		"schedule of the sweep for orphans":   func() error { return orphan.Schedule(ctx, temporal, string(c.Queue.TaskQueue)) },
		"workflow that keeps databases ready": func() error { return readydb.Start(ctx, temporal, string(c.Queue.TaskQueue)) },
	} {
		go keepTrying(ctx, c.Log, what, do)
	}
	return stop, nil
}

// keepTrying makes something, trying again until it works or ctx ends.
func keepTrying(ctx context.Context, log *slog.Logger, what string, do func() error) {
	for {
		err := do()
		if err == nil || ctx.Err() != nil {
			return
		}
		log.Warn("The "+what+" could not be made yet; trying again", "error", redact.Error(err))
		if !pause(ctx, 10*time.Second) {
			return
		}
	}
}

// openServers opens the servers of tenants' databases: first the one on which they are made.
func openServers(ctx context.Context, c *config.Worker, reg *registry.Registry) (servers []*tenantserver.Server, closeAll func(), err error) {
	closeAll = func() {
		for _, server := range servers {
			server.Close()
		}
	}
	installation, err := reg.Installation(ctx)
	if err != nil {
		return nil, nil, errors.New("the registry does not say which installation it is of: run `narthex migrate`")
	}
	for _, url := range append([]config.DatabaseURL{c.TenantServerURL}, c.OtherTenantServerURLs...) {
		server, err := tenantserver.Open(ctx, string(url), installation, migrations.Tenant)
		if err != nil {
			closeAll()
			return nil, nil, err
		}
		servers = append(servers, server)
	}
	return servers, closeAll, nil
}

// startWhenReachable starts the worker, waiting for Temporal as long as it takes.
func startWhenReachable(ctx context.Context, w worker.Worker, log *slog.Logger) error {
	for {
		err := w.Start()
		if err == nil {
			return nil
		}
		log.Warn("Temporal is not reachable yet; trying again", "error", err.Error())
		if !pause(ctx, 2*time.Second) {
			return errors.New("stopped before Temporal could be reached")
		}
	}
}
