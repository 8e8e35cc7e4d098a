package activities

import (
	"context"
	"errors"
	"net/url"
	"time"

	"narthex/internal/fleet"
	"narthex/internal/fleet/ledger"
	"narthex/internal/registry"
	"narthex/internal/schema"
	"narthex/internal/sqlstate"
	"narthex/internal/tenantserver"
)

const (
	enterLimit   = time.Minute // to record what was done
	mostAttempts = 5           // for a church that breaks its connection every time
)

// changeNext claims a church and changes it, and reports whether there was one. It finishes a change that has begun even if
// the slice ends, except that a backfill pauses: the next slice continues it. It fails only if the server is down; the church then
// goes back to the queue.
func (a *Activities) changeNext(
	ctx context.Context, server *tenantserver.Server, slice fleet.Slice, until time.Time,
) (more bool, err error) {
	claimed, ok, err := a.Ledger.Claim(ctx, slice)
	if err != nil || !ok {
		return false, err
	}
	ctx = context.WithoutCancel(ctx)
	change := tenantserver.Change{From: claimed.FromVersion, To: claimed.ToVersion, Until: until}
	did, cause := a.changeChurch(ctx, server, claimed, change, limits(slice.Limits))
	if errors.Is(cause, ledger.ErrLost) {
		return true, nil
	}
	ctx, cancel := context.WithTimeout(ctx, enterLimit)
	defer cancel()
	outcome := ledger.Outcome{Began: did.From, Reached: did.To}
	if did.To > 0 {
		outcome.Serves, err = server.Serves(did.To)
		if err != nil {
			return false, err
		}
	}
	switch {
	case cause == nil:
		return true, a.Ledger.Changed(ctx, claimed, outcome)
	case errors.Is(cause, schema.ErrPaused):
		return true, a.Ledger.Postpone(ctx, claimed, outcome)
	case !isAway(cause) || neverAnswers(ctx, server, cause) || claimed.Attempts >= mostAttempts:
		return true, a.Ledger.Failed(ctx, claimed, outcome, cause)
	}
	err = a.Ledger.GiveBack(ctx, claimed, outcome)
	if isDown(ctx, server, cause) {
		return false, errors.Join(cause, err)
	}
	return true, err
}

func (a *Activities) changeChurch(
	ctx context.Context, server *tenantserver.Server, claimed ledger.Claimed, change tenantserver.Change, limits tenantserver.Limits,
) (did tenantserver.Change, err error) {
	if claimed.SignupID == "" {
		return did, tenantserver.ErrGone
	}
	d := tenantserver.Database{TenantID: claimed.TenantID, SignupID: claimed.SignupID}
	return server.ChangeSchema(ctx, d, change, limits, a.permit(claimed))
}

// permit forbids an attempt that has lost its claim. It returns the password of the church's role, so that everything in
// the church's database is done with that role's rights.
func (a *Activities) permit(claimed ledger.Claimed) tenantserver.Permit {
	return func(ctx context.Context) (password string, err error) {
		sealed, err := a.Ledger.Hold(ctx, claimed)
		if err != nil {
			return "", err
		}
		if sealed == nil {
			return "", tenantserver.ErrGone
		}
		at, err := a.Keys.Open(sealed, registry.DatabaseURLPlace(claimed.TenantID))
		if err != nil {
			return "", err
		}
		return passwordIn(string(at))
	}
}

// isAway reports whether the cause is the server and not the church: the connection broke or could not be opened.
func isAway(err error) bool {
	for _, own := range []error{
		tenantserver.ErrGone, tenantserver.ErrNotOwned, tenantserver.ErrUnknownVersion, schema.ErrDirty, schema.ErrVersion,
		schema.ErrEndless,
	} {
		if errors.Is(err, own) {
			return false
		}
	}
	return err != nil && sqlstate.Outage(err)
}

// isDown reports whether the server caused an error and still doesn't answer.
func isDown(ctx context.Context, server *tenantserver.Server, err error) bool {
	return isAway(err) && server.Ping(ctx) != nil
}

// neverAnswers reports whether a change has used up its time although the server answers. What a church has made can lift the
// statement timeout, and another attempt would take as long.
func neverAnswers(ctx context.Context, server *tenantserver.Server, err error) bool {
	return errors.Is(err, tenantserver.ErrTooLong) && server.Ping(ctx) == nil
}

// churchDatabase returns a church's database with its password, so that everything there is done as the church's role.
// Errors: tenantserver.ErrGone.
func (a *Activities) churchDatabase(ctx context.Context, tenantID, signupID string) (tenantserver.Database, error) {
	tenant, err := a.Registry.Tenant(ctx, tenantID)
	if errors.Is(err, registry.ErrNotFound) {
		return tenantserver.Database{}, tenantserver.ErrGone
	}
	if err != nil {
		return tenantserver.Database{}, err
	}
	password, err := passwordIn(tenant.DatabaseURL)
	return tenantserver.Database{TenantID: tenantID, SignupID: signupID, Password: password}, err
}

func passwordIn(databaseURL string) (password string, err error) {
	at, err := url.Parse(databaseURL)
	if err != nil {
		return "", errors.New("the church's database URL is malformed") // the reason would quote the URL
	}
	password, _ = at.User.Password()
	return password, nil
}

func limits(l fleet.Limits) tenantserver.Limits { return tenantserver.Limits(l.WithDefaults()) }
