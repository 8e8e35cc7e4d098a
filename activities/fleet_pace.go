package activities

import (
	"context"
	"fmt"
	"math"
	"strings"
	"sync"
	"time"

	"go.temporal.io/sdk/activity"

	"narthex/internal/fleet"
	"narthex/internal/redact"
	"narthex/internal/tenantserver"
)

// lookPause is the time between two checks of the server's health. heldPause is how often a change that is held back checks
// whether it may start.
const (
	lookPause = 5 * time.Second
	heldPause = 200 * time.Millisecond
)

// pace limits how many churches of a slice are changed at once. Each check that finds the server under strain halves the
// limit, down to zero; each other check doubles it.
type pace struct {
	do     *Activities
	server *tenantserver.Server
	slice  fleet.Slice

	mu     sync.Mutex
	held   int // how many of slice.AtOnce must wait
	reason string
	said   string // the reason that is in the ledger
	done   bool   // there is nothing left to change
}

// watch checks the server's health until ctx ends, and sends Temporal heartbeats.
func (p *pace) watch(ctx context.Context) {
	for ctx.Err() == nil {
		activity.RecordHeartbeat(ctx)
		select {
		case <-ctx.Done():
		case <-time.After(p.do.lookPause()):
			p.look(ctx)
		}
	}
}

func (a *Activities) lookPause() time.Duration {
	if a.FleetPause > 0 {
		return a.FleetPause
	}
	return lookPause
}

func (p *pace) look(ctx context.Context) {
	suffers, least := p.strain(ctx)
	if ctx.Err() != nil {
		return
	}
	p.mu.Lock()
	p.adjust(suffers, least)
	reason, news := p.reason, p.reason != p.said
	p.said = reason
	p.mu.Unlock()
	if !news {
		return
	}
	if err := p.do.Ledger.Say(ctx, p.slice.RunID, reason); err != nil {
		activity.GetLogger(ctx).Warn("The ledger could not record why the run is slow", "error", redact.Error(err))
	}
}

// adjust changes the pace. It leaves at least least changes running, however much the server suffers.
func (p *pace) adjust(suffers string, least int) {
	allowed := p.slice.AtOnce - p.held
	if suffers == "" {
		allowed = min(max(1, 2*allowed), p.slice.AtOnce)
	} else {
		allowed = max(allowed/2, least)
	}
	p.held = p.slice.AtOnce - allowed
	switch {
	case allowed == 0:
		p.reason = "waiting: " + suffers
	case suffers != "":
		p.reason = "slowed: " + suffers
	case p.held > 0:
		p.reason = "slowed: the server is recovering"
	default:
		p.reason = ""
	}
}

// strain describes what strains the server, and returns how many churches may still be changed at once. A vacuum that
// prevents wraparound may run for hours, so it must not stop a run.
func (p *pace) strain(ctx context.Context) (words string, least int) {
	canary, err := p.do.Ledger.Sample(ctx, p.slice.RunID)
	if err != nil {
		return "", 0 // the registry is down, so no church is claimed
	}
	h, err := p.server.Health(ctx, tenantserver.Database{TenantID: canary.TenantID, SignupID: canary.SignupID})
	if err != nil {
		return "its health can't be checked: " + redact.Error(err), 0
	}
	words = exceeded(h, p.slice.Bounds)
	if h.Vacuums <= p.slice.MaxVacuums {
		return words, 0
	}
	vacuums := "1 autovacuum prevents wraparound"
	if h.Vacuums > 1 {
		vacuums = fmt.Sprintf("%d autovacuums prevent wraparound", h.Vacuums)
	}
	if words == "" {
		return vacuums, 1
	}
	return words + ", " + vacuums, 0
}

// exceeded says which bounds a server's health exceeds, except the one for vacuums.
func exceeded(h tenantserver.Health, most fleet.Bounds) string {
	var words []string
	if h.Lag > most.MaxLag {
		words = append(words, "replication lags by "+h.Lag.Round(100*time.Millisecond).String())
	}
	if h.Connections > most.MaxConnections {
		words = append(words, fmt.Sprintf("%.0f%% of the connections are taken", math.Floor(100*h.Connections)))
	}
	if h.Read > most.MaxRead {
		words = append(words, "reads take "+h.Read.Round(time.Millisecond).String())
	}
	return strings.Join(words, ", ")
}

// await waits until change number i of the slice's AtOnce is no longer held back. It returns false if the slice is over by
// then.
func (p *pace) await(ctx context.Context, i int, until time.Time) (on bool, err error) {
	for time.Now().Before(until) {
		p.mu.Lock()
		done, held := p.done, i >= p.slice.AtOnce-p.held
		p.mu.Unlock()
		if done || !held {
			return !done, nil
		}
		select {
		case <-ctx.Done():
			return false, ctx.Err()
		case <-time.After(heldPause):
		}
	}
	return false, nil
}

// finish ends all waits: there is no church left to change.
func (p *pace) finish() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.done = true
}
