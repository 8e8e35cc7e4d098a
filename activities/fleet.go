package activities

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"go.temporal.io/sdk/temporal"
	"golang.org/x/sync/errgroup"
	"golang.org/x/time/rate"

	"narthex/internal/fleet"
	"narthex/internal/saga"
	"narthex/internal/tenantserver"
)

// OpenFleetRun ensures that new churches get the run's schema, and enters the run and its churches in the ledger.
// Idempotent.
func (a *Activities) OpenFleetRun(ctx context.Context, in fleet.Input) (fleet.Tally, error) {
	defer keepBeating(ctx)()
	server, err := a.fleetServer(in.Server)
	if err != nil {
		return fleet.Tally{}, err
	}
	if in.Undoes != "" {
		err = a.checkUndo(ctx, server, in.Undoes)
	} else {
		err = checkVersion(server, in)
	}
	if err != nil {
		return fleet.Tally{}, err
	}
	if server == a.Server && in.Undoes == "" {
		if err := server.EnsureTemplate(ctx); err != nil {
			return fleet.Tally{}, forward("make the template", err)
		}
		if err := a.tidyReady(ctx); err != nil {
			return fleet.Tally{}, forward("drop ready databases of the older schema", err)
		}
	}
	if in.Undoes != "" {
		if err := a.settle(ctx, server, in.Undoes); err != nil {
			return fleet.Tally{}, undo("find out what the run was changing when it was ended", err)
		}
	}
	err = a.Ledger.Open(ctx, in)
	if errors.Is(err, fleet.ErrBusy) {
		return fleet.Tally{}, refuse(err.Error())
	}
	if err != nil {
		return fleet.Tally{}, forward("open the run", err)
	}
	return a.tally(ctx, in.RunID)
}

// checkVersion refuses a run to another release's schema.
func checkVersion(server *tenantserver.Server, in fleet.Input) error {
	if has := server.SchemaVersion(); in.Version != has {
		return refuse(fmt.Sprintf("the run's target is version %d, but the worker's release has %d", in.Version, has))
	}
	return nil
}

// checkUndo refuses to undo a run if one of its down migrations may lose data.
func (a *Activities) checkUndo(ctx context.Context, server *tenantserver.Server, runID string) error {
	from, to, err := a.Ledger.Span(ctx, runID)
	if err != nil {
		return forward("look up what to undo", err)
	}
	files, err := server.LosesData(from, to)
	if err != nil {
		return refuse("the worker's release doesn't have the down migration: " + err.Error())
	}
	if len(files) > 0 {
		return refuse("undoing may lose data: there is no `-- safe for data` line in " + strings.Join(files, " and "))
	}
	return nil
}

func refuse(why string) error {
	return temporal.NewNonRetryableApplicationError(why, saga.ErrorNotOwned, nil)
}

// ExtendFleetRun adds the churches that signups have created with an older schema since the run began. Idempotent.
func (a *Activities) ExtendFleetRun(ctx context.Context, in fleet.Input) (fleet.Tally, error) {
	defer keepBeating(ctx)()
	if err := a.Ledger.Extend(ctx, in); err != nil {
		return fleet.Tally{}, forward("extend the run", err)
	}
	return a.tally(ctx, in.RunID)
}

// EnterFleetState records a run's state in the ledger. ChangeChurches then claims churches only while the run is running.
func (a *Activities) EnterFleetState(ctx context.Context, at fleet.Progress) error {
	return undo("record the run's state", a.Ledger.Enter(ctx, at))
}

// RequeueFailed puts a run's failed churches back in the queue. Idempotent.
func (a *Activities) RequeueFailed(ctx context.Context, runID string) (fleet.Tally, error) {
	defer keepBeating(ctx)()
	if err := a.Ledger.Requeue(ctx, runID); err != nil {
		return fleet.Tally{}, forward("requeue failed churches", err)
	}
	return a.tally(ctx, runID)
}

func (a *Activities) tally(ctx context.Context, runID string) (fleet.Tally, error) {
	counted, err := a.Ledger.Tally(ctx, runID)
	return counted, forward("count the run's churches", err)
}

// ChangeChurches changes a wave's churches until none is left, the run is no longer running, too many have failed, or
// fleet.SliceTime is over. It slows down while the server is under strain. It fails if the server is down; if only one
// church fails, the ledger records it.
func (a *Activities) ChangeChurches(ctx context.Context, slice fleet.Slice) (fleet.Result, error) {
	server, err := a.fleetServer(slice.Server)
	if err != nil {
		return fleet.Result{}, err
	}
	if err := server.Ping(ctx); err != nil { // before a church is claimed, because an outage must not count as an attempt
		return fleet.Result{}, undo("reach the server", err)
	}
	if err := a.Ledger.GiveAllBack(ctx, slice.RunID); err != nil {
		return fleet.Result{}, undo("take up an interrupted slice", err)
	}
	if result, err := a.result(ctx, slice); err != nil || result.Left == 0 {
		result.Held = slice.Held
		return result, err
	}
	server, err = server.Apart(ctx, slice.AtOnce) // each change holds a session, and signups must not wait for them
	if err != nil {
		return fleet.Result{}, undo("reach the server", err)
	}
	defer server.Close()
	slice.Bounds = slice.Bounds.WithDefaults()
	p := &pace{do: a, server: server, slice: slice, held: slice.Held}
	p.look(ctx)
	err = a.changeAtOnce(ctx, p)
	if err == nil {
		err = a.Ledger.Flush(ctx, slice.RunID)
	}
	if ctx.Err() != nil { // an operator cancelled the run
		return fleet.Result{}, ctx.Err()
	}
	if err != nil {
		return fleet.Result{}, undo("change churches", err)
	}
	result, err := a.result(ctx, slice)
	result.Held, result.Reason = p.held, p.reason
	return result, err
}

// changeAtOnce changes churches at the pace that the server can take, until the slice is over.
func (a *Activities) changeAtOnce(ctx context.Context, p *pace) error {
	limiter := rate.NewLimiter(rate.Inf, 1)
	if p.slice.Rate > 0 {
		limiter.SetLimit(rate.Limit(p.slice.Rate))
	}
	until := time.Now().Add(fleet.SliceTime)
	watching, stop := context.WithCancel(ctx)
	var watch sync.WaitGroup
	watch.Go(func() { p.watch(watching) })
	changing, ctx := errgroup.WithContext(ctx)
	for i := range p.slice.AtOnce {
		changing.Go(func() error {
			defer p.finish()
			for {
				on, err := p.await(ctx, i, until)
				if err != nil || !on {
					return err
				}
				if err := limiter.Wait(ctx); err != nil {
					return err
				}
				more, err := a.changeNext(ctx, p.server, p.slice, until)
				if err != nil || !more {
					return err
				}
			}
		})
	}
	err := changing.Wait()
	stop()
	watch.Wait()
	return err
}

func (a *Activities) result(ctx context.Context, slice fleet.Slice) (fleet.Result, error) {
	counted, err := a.Ledger.Tally(ctx, slice.RunID)
	if err != nil {
		return fleet.Result{}, undo("count the run's churches", err)
	}
	left, err := a.Ledger.Left(ctx, slice.RunID, slice.Wave)
	return fleet.Result{Tally: counted, Left: left}, undo("count what is left of the wave", err)
}

// fleetServer returns the server with this name. Another worker may know a server that this one doesn't.
func (a *Activities) fleetServer(name string) (*tenantserver.Server, error) {
	server := a.serverNamed(name)
	if server == nil {
		message := "this worker doesn't know the server " + name + ": see OTHER_TENANT_SERVER_URLS"
		return nil, temporal.NewApplicationError(message, saga.ErrorDatabase)
	}
	return server, nil
}
