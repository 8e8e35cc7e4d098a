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
	"narthex/internal/pool"
	"narthex/internal/registry"
	"narthex/internal/tenantserver"
	"narthex/migrations"
)

// take claims from the pool, where there is one.
func (a *Activities) take() tenantserver.Take {
	if a.PoolSize == 0 {
		return nil
	}
	return a.Registry.ClaimPooled
}

// KeepPoolFilled keeps PoolSize databases of the newest schema ready on Server for a while, and drops what nobody
// can use any more. It returns when its time is over, or this worker's. What fails is tried again.
func (a *Activities) KeepPoolFilled(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, pool.Round)
	defer cancel()
	go func() {
		select {
		case <-activity.GetWorkerStopChannel(ctx):
			cancel()
		case <-ctx.Done():
		}
	}()
	metrics := activity.GetMetricsHandler(ctx).WithTags(map[string]string{"server": a.Server.Name()})
	defer metrics.Gauge("pool_stock").Update(math.NaN()) // the next round may be another process's
	var watch stockWatch
	tidied := false
	for {
		activity.RecordHeartbeat(ctx)
		var err error
		if !tidied {
			tidied, err = true, a.tidyPool(ctx) // what could not be dropped waits for the next round
		}
		err = errors.Join(err, a.refillPool(ctx, metrics, &watch))
		pause := pool.Look
		if err != nil && ctx.Err() == nil {
			activity.GetLogger(ctx).Warn("The pool of databases could not be kept; trying again", "error", describe(err))
			pause *= 10
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(pause):
		}
	}
}

// stockWatch knows since when a stock has not fallen.
type stockWatch struct {
	stock int
	since time.Time
}

// quiet takes in the stock, and returns for how long none was claimed.
func (w *stockWatch) quiet(stock int, now time.Time) time.Duration {
	if w.since.IsZero() || stock < w.stock {
		w.since = now
	}
	w.stock = stock
	return now.Sub(w.since)
}

// refillPool looks at the stock, and fills it up where it is low, or where nobody claims from it.
func (a *Activities) refillPool(ctx context.Context, metrics client.MetricsHandler, watch *stockWatch) error {
	template := a.Server.Template()
	if template == "" {
		return nil // it is being made
	}
	stock, err := a.Registry.CountPooled(ctx, a.Server.Name(), template)
	if err != nil {
		return err
	}
	metrics.Gauge("pool_stock").Update(float64(stock))
	metrics.Gauge("pool_size").Update(float64(a.PoolSize))
	if quiet := watch.quiet(stock, time.Now()); stock >= pool.Low(a.PoolSize) && quiet < pool.Quiet {
		return nil
	}
	*watch = stockWatch{} // what falls from now on has not been seen yet
	making, ctx := errgroup.WithContext(ctx)
	making.SetLimit(pool.AtOnce)
	for range a.PoolSize - stock {
		making.Go(func() error { return a.addToPool(ctx, template) })
	}
	return making.Wait()
}

const makeLimit = 10 * time.Second

// addToPool makes a database and offers it. One that was begun is ended, though the round is over or the worker
// stops: nobody has to look for halves.
func (a *Activities) addToPool(ctx context.Context, template string) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	activity.RecordHeartbeat(ctx)
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), makeLimit)
	defer cancel()
	id := ids.New()
	if err := a.Server.MakePooled(ctx, id); err != nil {
		return err
	}
	return a.Registry.AddPooled(ctx, registry.PooledDatabase{ID: id, Server: a.Server.Name(), Template: template, SchemaVersion: migrations.TenantVersion()})
}

// tidyPool drops databases of older schemas, and what was lost on its way into the pool or out of it. Those of
// newer schemas are left alone: a release that was taken back may come again. What cannot be dropped keeps nothing
// else from it.
func (a *Activities) tidyPool(ctx context.Context) error {
	offered, err := a.Registry.Pooled(ctx) // before looking at the server: an offered one is there
	if err != nil {
		return err
	}
	there, err := a.Server.Pooled(ctx)
	if err != nil {
		return err
	}
	template, failed := a.Server.Template(), error(nil)
	for _, d := range offered {
		exists := there[d.ID]
		delete(there, d.ID)
		if d.Server != a.Server.Name() { // or another name of it: another worker's to tidy
			continue
		}
		old := template != "" && d.Template != template && d.SchemaVersion <= migrations.TenantVersion()
		if exists && !old && a.PoolSize > 0 {
			continue
		}
		removed, err := a.Registry.RemovePooled(ctx, d.ID)
		if err == nil && removed {
			err = a.Server.DropPooled(ctx, d.ID)
		}
		failed = errors.Join(failed, err)
		activity.RecordHeartbeat(ctx)
	}
	for id := range there {
		if a.Now().Sub(ids.Time(id)) < pool.Grace {
			continue
		}
		failed = errors.Join(failed, a.Server.DropPooled(ctx, id))
		activity.RecordHeartbeat(ctx)
	}
	return failed
}
