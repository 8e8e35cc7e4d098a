package activities

import (
	"context"
	"errors"
	"time"

	"go.temporal.io/sdk/activity"

	"narthex/internal/fleet"
	"narthex/internal/fleet/ledger"
	"narthex/internal/redact"
	"narthex/internal/tenantserver"
)

// RehearseFleet makes a run's change on copies of the largest church, the oldest one and a random one, with the run's
// timeouts. It touches no church. It fails only if it can't rehearse; a failed copy is reported in the result.
func (a *Activities) RehearseFleet(ctx context.Context, in fleet.Input) (fleet.Rehearsal, error) {
	defer keepBeating(ctx)()
	server, err := a.fleetServer(in.Server)
	if err != nil {
		return fleet.Rehearsal{}, err
	}
	if err := checkVersion(server, in); err != nil {
		return fleet.Rehearsal{}, err
	}
	largest, err := server.LargestTenants(ctx)
	if err != nil {
		return fleet.Rehearsal{}, forward("find the largest church", err)
	}
	samples, churches, err := a.Ledger.Samples(ctx, in, largest)
	if err != nil {
		return fleet.Rehearsal{}, forward("choose churches", err)
	}
	rehearsal := fleet.Rehearsal{Churches: churches}
	for _, sample := range samples {
		did, err := a.rehearseOn(ctx, server, in, sample)
		if ctx.Err() != nil { // the run was cancelled
			return fleet.Rehearsal{}, ctx.Err()
		}
		if errors.Is(err, tenantserver.ErrNoPrograms) {
			return fleet.Rehearsal{}, refuse(err.Error() + ": install PostgreSQL's client programs, or use --no-rehearsal")
		}
		if isDown(ctx, server, err) {
			return fleet.Rehearsal{}, undo("rehearse", err)
		}
		if err != nil {
			did.Error = redact.Error(err)
		}
		rehearsal.Copies = append(rehearsal.Copies, did)
	}
	rehearsal.Predict(in.Options)
	return rehearsal, nil
}

func (a *Activities) rehearseOn(
	ctx context.Context, server *tenantserver.Server, in fleet.Input, sample ledger.Sample,
) (fleet.Copy, error) {
	d, err := a.churchDatabase(ctx, sample.TenantID, sample.SignupID)
	if err != nil {
		return fleet.Copy{TenantID: sample.TenantID, Why: sample.Why}, err
	}
	did, err := server.Rehearse(ctx, d, tenantserver.Change{From: sample.SchemaVersion, To: in.Version}, limits(in.Options.Limits))
	return fleet.Copy{
		TenantID: sample.TenantID, Why: sample.Why, Size: did.Size, Took: did.Took, WAL: did.WAL, Disk: did.Disk,
		Locks: did.Locks[:min(len(did.Locks), mostListed)], Rewrites: did.Rewrites[:min(len(did.Rewrites), mostListed)],
	}, err
}

// mostListed limits the tables that a copy's report lists. Temporal limits a result's size, and a church can have any number.
const mostListed = 100

const beat = 5 * time.Second

// keepBeating sends heartbeats during work that is one long step, until it is stopped.
func keepBeating(ctx context.Context) (stop func()) {
	done := make(chan struct{})
	go func() {
		for {
			select {
			case <-done:
				return
			case <-time.After(beat):
				activity.RecordHeartbeat(ctx)
			}
		}
	}()
	return func() { close(done) }
}
