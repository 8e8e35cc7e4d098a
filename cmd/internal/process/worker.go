package process

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"time"

	"go.temporal.io/api/serviceerror"
	"go.temporal.io/api/workflowservice/v1"
	sdkworker "go.temporal.io/sdk/worker"

	"narthex/activities"
	"narthex/httpapi/services"
	"narthex/internal/config"
	"narthex/internal/fleet"
	"narthex/internal/fleet/ledger"
	"narthex/internal/orphan"
	"narthex/internal/readydb"
	"narthex/internal/redact"
	"narthex/internal/registry"
	"narthex/internal/release"
	"narthex/internal/tenantdb"
	"narthex/internal/tenantserver"
	"narthex/migrations"
	"narthex/workflows"
)

const (
	workerDrain   = 15 * time.Second // for activities, at a stop
	countPause    = 30 * time.Second // between counts of stuck rollbacks and of orphans
	fleetPause    = time.Minute      // between counts of churches by schema version, which look at all of them
	temporalPause = 2 * time.Second  // between tries to reach Temporal
	temporalLimit = 5 * time.Second  // for each of them
	chorePause    = 10 * time.Second // between tries to do a chore
)

// worker takes work from the task queue, once Temporal answers.
type worker struct {
	*process
	deployment *release.Deployment
	servers    []*tenantserver.Server // first the one on which tenants' databases are made
	fail       context.CancelCauseFunc

	cancel  context.CancelFunc // cancels what start does
	started chan struct{}      // closed when start's work has ended
	running sdkworker.Worker   // valid once started is closed; nil if Temporal never answered
}

// openWorker checks the configuration, but takes no work yet. It calls fail if the worker ends later.
func openWorker(ctx context.Context, p *process, fail context.CancelCauseFunc) (*worker, error) {
	deployment, err := OpenDeployment(p.temporal, p.Queue, p.Release)
	if err != nil {
		return nil, err
	}
	servers, err := OpenServers(ctx, p.Worker.TenantServers, p.registry)
	if err != nil {
		return nil, err
	}
	return &worker{process: p, deployment: deployment, servers: servers, fail: fail}, nil
}

// OpenServers opens the servers of tenants' databases. The first is the one on which new ones are made.
func OpenServers(ctx context.Context, c config.TenantServers, reg *registry.Registry) (servers []*tenantserver.Server, err error) {
	installation, err := reg.Installation(ctx)
	if err != nil {
		return nil, fmt.Errorf("the registry's installation id cannot be read: does the registry answer, and has `narthex migrate` run? (%s)",
			redact.Error(err))
	}
	for _, url := range append([]config.DatabaseURL{c.TenantServerURL}, c.OtherTenantServerURLs...) {
		server, err := tenantserver.Open(ctx, string(url), installation, migrations.Tenant)
		if err != nil {
			closeAll(servers)
			return nil, err
		}
		servers = append(servers, server)
	}
	return servers, nil
}

func closeAll(servers []*tenantserver.Server) {
	for _, server := range servers {
		server.Close()
	}
}

// start takes work in the background as soon as Temporal answers, however long that takes. It calls ready once the
// worker's release is current, or is known to have to wait.
func (w *worker) start(ctx context.Context, ready func()) {
	ctx, w.cancel = context.WithCancel(ctx)
	w.started = make(chan struct{})
	go w.watch.CountOrphans(ctx, w.registry, countPause, w.Log)
	go w.watch.CountFleet(ctx, w.standing(time.Now()), fleetPause, w.Log)
	go func() {
		defer close(w.started)
		if err := w.awaitTemporal(ctx); err != nil {
			w.fail(err)
		}
		if w.running == nil || !w.settle(ctx) {
			return
		}
		w.doChores(ctx)
		ready()
	}()
}

// standing returns a function that says how the fleet stands as seen by this release, which is known since then at the latest.
func (w *worker) standing(known time.Time) func(context.Context) (fleet.Standing, error) {
	fleets := ledger.New(w.registry.Pool())
	return func(ctx context.Context) (fleet.Standing, error) {
		return fleets.Standing(ctx, migrations.TenantVersion(), known)
	}
}

// stop lets the worker finish its current work.
func (w *worker) stop() {
	defer closeAll(w.servers)
	if w.started == nil {
		return
	}
	w.cancel()
	<-w.started
	if w.running != nil {
		w.running.Stop()
	}
}

// awaitTemporal starts the worker as soon as Temporal answers, or returns without an error when ctx ends.
func (w *worker) awaitTemporal(ctx context.Context) error {
	err := retry{
		warning: "Temporal is not reachable yet", words: error.Error, log: w.Log, pause: temporalPause, final: isFinal,
	}.do(ctx, w.tryRunning)
	if ctx.Err() != nil {
		return nil
	}
	if err != nil {
		return because("the worker cannot start", err)
	}
	return nil
}

// because describes why Temporal ends the process.
func because(what string, err error) error {
	return errors.New(redact.Error(fmt.Errorf("%s: %w", what, err)))
}

// isFinal reports whether Temporal's SDK would also end a running worker because of this error.
func isFinal(err error) bool {
	_, namespace := errors.AsType[*serviceerror.NamespaceNotFound](err)
	_, argument := errors.AsType[*serviceerror.InvalidArgument](err)
	_, version := errors.AsType[*serviceerror.ClientVersionNotSupported](err)
	return namespace || argument || version
}

// tryRunning starts a worker. It asks Temporal first, because a worker that fails to start can't be started again, and
// its Start can't be stopped.
func (w *worker) tryRunning(ctx context.Context) error {
	attempt, cancel := context.WithTimeout(ctx, temporalLimit)
	defer cancel()
	namespace := &workflowservice.DescribeNamespaceRequest{Namespace: w.Temporal.Namespace}
	if _, err := w.temporal.WorkflowService().DescribeNamespace(attempt, namespace); err != nil {
		return err
	}
	running := w.newWorker()
	if err := running.Start(); err != nil {
		running.Stop()
		return err
	}
	w.running = running
	return nil
}

func (w *worker) newWorker() sdkworker.Worker {
	running := sdkworker.New(w.temporal, string(w.TaskQueue), sdkworker.Options{
		WorkerStopTimeout: workerDrain,
		DeploymentOptions: w.deployment.Options(),
		OnFatalError:      func(err error) { w.fail(because("the worker cannot continue", err)) },
	})
	(&workflows.Workflows{Server: w.servers[0].Name()}).Register(running)
	running.RegisterActivity(&activities.Activities{
		Registry: w.registry, Server: w.servers[0], Others: w.servers[1:], Keys: w.keys, Temporal: w.temporal,
		Ledger: ledger.New(w.registry.Pool()), Statements: statements(), ReadyDatabases: int(w.ReadyDatabases), Now: time.Now,
	})
	return running
}

// statements returns all SQL statements that an API of this release runs on a church's database.
func statements() tenantserver.Statements {
	all := tenantserver.Statements{SQL: services.Statements(), Lists: services.Lists()}
	maps.Copy(all.SQL, tenantdb.Statements())
	maps.Copy(all.Lists, tenantdb.Lists())
	return all
}

// doChores does in the background what only one of all workers has to do, and counts what operators watch.
func (w *worker) doChores(ctx context.Context) {
	queue := string(w.TaskQueue)
	for what, do := range map[string]func(context.Context) error{
		"template of tenants' databases":      w.servers[0].EnsureTemplate, // until it exists, they are made without it
		"schedule of the sweep for orphans":   func(ctx context.Context) error { return orphan.Schedule(ctx, w.temporal, queue) },
		"workflow that keeps databases ready": func(ctx context.Context) error { return readydb.Start(ctx, w.temporal, queue) },
	} {
		chore := retry{warning: "The " + what + " could not be made yet", words: redact.Error, log: w.Log, pause: chorePause}
		go func() { _ = chore.do(ctx, do) }() // retried until ctx ends
	}
	go w.watch.CountStuck(ctx, w.temporal, queue, countPause, w.Log)
	if w.API != nil {
		go w.current.watch(ctx, w.deployment)
	}
}
