package activities

import (
	"context"
	"errors"
	"math"
	"time"

	"go.temporal.io/sdk/activity"
	"go.temporal.io/sdk/client"
	"golang.org/x/sync/errgroup"

	"narthex/internal/ids"
	"narthex/internal/readydb"
	"narthex/internal/registry"
	"narthex/internal/tenantserver"
)

// take returns how to claim a ready database, or nil if none are kept.
func (a *Activities) take() tenantserver.Take {
	if a.ReadyDatabases == 0 {
		return nil
	}
	return a.Registry.ClaimReadyDatabase
}

// KeepPoolFilled keeps ReadyDatabases databases of the newest schema ready on Server for one round, and drops those that
// nobody can use any more. It returns when the round is over or the worker stops. It retries what fails.
func (a *Activities) KeepPoolFilled(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, readydb.Round)
	defer cancel()
	go func() {
		select {
		case <-activity.GetWorkerStopChannel(ctx):
			cancel()
		case <-ctx.Done():
		}
	}()
	metrics := activity.GetMetricsHandler(ctx).WithTags(map[string]string{"server": a.Server.Name()})
	defer metrics.Gauge("pool_stock").Update(math.NaN()) // another process may run the next round
	var stock readydb.Stock
	tidied := false
	for {
		activity.RecordHeartbeat(ctx)
		var err error
		if !tidied {
			tidied, err = true, a.tidyReady(ctx) // what cannot be dropped waits for the next round
		}
		err = errors.Join(err, a.refill(ctx, metrics, &stock))
		pause := readydb.Look
		if err != nil && ctx.Err() == nil {
			activity.GetLogger(ctx).Warn("Databases could not be kept ready; retrying", "error", describe(err))
			pause *= 10
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(pause):
		}
	}
}

// keepTemplate makes the template if it is missing. Signups copy it too when no database is ready.
func (a *Activities) keepTemplate(ctx context.Context) error {
	exists, err := a.Server.HasTemplate(ctx)
	if err != nil || exists && a.Server.Template() != "" {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, templateLimit)
	defer cancel()
	return a.Server.EnsureTemplate(ctx)
}

// refill counts the ready databases, and makes as many more as stock asks for.
func (a *Activities) refill(ctx context.Context, metrics client.MetricsHandler, stock *readydb.Stock) error {
	if err := a.keepTemplate(ctx); err != nil {
		return err
	}
	template := a.Server.Template()
	ready, err := a.Registry.CountReadyDatabases(ctx, a.Server.Name(), template)
	if err != nil {
		return err
	}
	metrics.Gauge("pool_stock").Update(float64(ready))
	metrics.Gauge("pool_size").Update(float64(a.ReadyDatabases))
	making, ctx := errgroup.WithContext(ctx)
	making.SetLimit(readydb.AtOnce)
	for range stock.Missing(ready, a.ReadyDatabases, time.Now()) {
		making.Go(func() error { return a.makeReady(ctx, template) })
	}
	return making.Wait()
}

// Each limit is shorter than the heartbeat's.
const (
	templateLimit = readydb.Round / 3
	makeLimit     = 10 * time.Second
)

// makeReady makes a database and offers it. Once begun, it finishes even if the round ends or the worker stops, so that
// it leaves nothing half-made.
func (a *Activities) makeReady(ctx context.Context, template string) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	activity.RecordHeartbeat(ctx)
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), makeLimit)
	defer cancel()
	id := ids.New()
	if err := a.Server.MakeReady(ctx, id); err != nil {
		return err
	}
	return a.Registry.AddReadyDatabase(ctx, registry.ReadyDatabase{
		ID: id, Server: a.Server.Name(), Template: template, SchemaVersion: a.Server.SchemaVersion(),
	})
}

// tidyReady drops databases of older schemas, and those that were lost while being made or claimed. It keeps databases
// of newer schemas: a release that was rolled back may return. A failure does not stop it.
func (a *Activities) tidyReady(ctx context.Context) error {
	offered, err := a.Registry.ReadyDatabases(ctx) // before listing the server's, so that what is offered exists there
	if err != nil {
		return err
	}
	existing, err := a.Server.ReadyIDs(ctx)
	if err != nil {
		return err
	}
	var failed error
	for _, d := range offered {
		exists := existing[d.ID]
		delete(existing, d.ID)
		if d.Server != a.Server.Name() || exists && a.usable(d) { // another server's own workers tidy it
			continue
		}
		failed = errors.Join(failed, a.withdraw(ctx, d.ID))
		activity.RecordHeartbeat(ctx)
	}
	for id := range existing {
		if a.Now().Sub(ids.Time(id)) < readydb.Grace {
			continue
		}
		failed = errors.Join(failed, a.Server.DropReady(ctx, id))
		activity.RecordHeartbeat(ctx)
	}
	return failed
}

// usable reports whether this release, or a newer one, may claim d.
func (a *Activities) usable(d registry.ReadyDatabase) bool {
	template := a.Server.Template() // "" while it is being made
	return a.ReadyDatabases > 0 && (template == "" || d.Template == template || d.SchemaVersion > a.Server.SchemaVersion())
}

// withdraw drops an offered database, unless a signup claims it first.
func (a *Activities) withdraw(ctx context.Context, id string) error {
	removed, err := a.Registry.RemoveReadyDatabase(ctx, id)
	if err != nil || !removed {
		return err
	}
	return a.Server.DropReady(ctx, id)
}
