package activities

import (
	"context"
	"errors"

	"narthex/internal/fleet/ledger"
	"narthex/internal/tenantserver"
)

// settle records what a run has done with the churches that it was changing when it was ended, so that they can be
// reverted. It fails if the server is down. A church that can't be checked is recorded as failed.
func (a *Activities) settle(ctx context.Context, server *tenantserver.Server, runID string) error {
	interrupted, err := a.Ledger.Interrupted(ctx, runID)
	if err != nil {
		return err
	}
	for _, claimed := range interrupted {
		if err := a.settleOne(ctx, server, claimed); err != nil && !errors.Is(err, ledger.ErrLost) {
			return err
		}
	}
	return nil
}

func (a *Activities) settleOne(ctx context.Context, server *tenantserver.Server, claimed ledger.Claimed) error {
	at, cause := 0, error(tenantserver.ErrGone)
	if claimed.SignupID != "" {
		d := tenantserver.Database{TenantID: claimed.TenantID, SignupID: claimed.SignupID}
		change := tenantserver.Change{From: claimed.FromVersion, To: claimed.ToVersion}
		at, cause = server.Version(ctx, d, change, a.permit(claimed))
	}
	if errors.Is(cause, ledger.ErrLost) || isDown(ctx, server, cause) {
		return cause
	}
	outcome := ledger.Outcome{Reached: at}
	if cause != nil {
		return a.Ledger.Failed(ctx, claimed, outcome, cause)
	}
	var err error
	outcome.Serves, err = server.Serves(at)
	if err != nil {
		return err
	}
	switch at {
	case claimed.ToVersion:
		return a.Ledger.Changed(ctx, claimed, outcome)
	case claimed.FromVersion:
		return a.Ledger.GiveBack(ctx, claimed, outcome)
	}
	return a.Ledger.Failed(ctx, claimed, outcome, errInterrupted)
}

var errInterrupted = errors.New("the run was ended while the church was being changed")
