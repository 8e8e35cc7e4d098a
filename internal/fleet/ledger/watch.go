package ledger

import (
	"context"
	"log/slog"
	"sync/atomic"
	"time"

	"narthex/internal/fleet"
	"narthex/internal/postgres"
	"narthex/internal/redact"
)

// Watch knows whether a church is behind a release's schema, as of its last look. It is safe for concurrent use.
type Watch struct {
	ledger  *Ledger
	version int
	log     *slog.Logger
	pace    atomic.Pointer[fleet.Pace]
}

// NewWatch watches the registry's churches for a release whose newest schema version is version. Keep looks at them.
func NewWatch(registry *postgres.Pool, version int, log *slog.Logger) *Watch {
	return &Watch{ledger: New(registry), version: version, log: log}
}

const (
	lookPause = time.Minute
	lookLimit = 10 * time.Second
)

// Pace returns how the fleet stood at the last look, which was at most lookPause and lookLimit ago.
func (w *Watch) Pace() fleet.Pace {
	if pace := w.pace.Load(); pace != nil {
		return *pace
	}
	return fleet.Unknown
}

// Keep looks at once, and then every minute until ctx ends.
func (w *Watch) Keep(ctx context.Context) {
	for {
		w.Look(ctx)
		select {
		case <-ctx.Done():
			return
		case <-time.After(lookPause):
		}
	}
}

// Look looks now.
func (w *Watch) Look(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, lookLimit)
	defer cancel()
	pace := fleet.Current
	behind, err := w.ledger.Behind(ctx, w.version)
	switch {
	case err != nil:
		pace = fleet.Unknown
		w.log.Warn("Nobody knows whether churches are behind; trying again in a minute", "error", redact.Error(err))
	case behind:
		pace = fleet.Behind
	}
	w.pace.Store(&pace)
}
