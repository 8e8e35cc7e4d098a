package process

import (
	"context"
	"log/slog"
	"time"
)

// retry says how to retry what needs a server that may be down.
type retry struct {
	warning string             // logged after each failed try
	words   func(error) string // describes the error for the log
	log     *slog.Logger       // folds repeated lines
	pause   time.Duration      // between two tries
	final   func(error) bool   // whether a retry can't help; nil means that it always may
}

// do tries until it works, fails for good, or ctx ends, and returns the last try's error.
func (r retry) do(ctx context.Context, try func(context.Context) error) error {
	for {
		err := try(ctx)
		if err == nil || ctx.Err() != nil || r.final != nil && r.final(err) {
			return err
		}
		r.log.Warn(r.warning+"; trying again", "error", r.words(err))
		if !pause(ctx, r.pause) {
			return err
		}
	}
}

// pause waits, and returns false if ctx ends first.
func pause(ctx context.Context, d time.Duration) bool {
	select {
	case <-ctx.Done():
		return false
	case <-time.After(d):
		return true
	}
}
