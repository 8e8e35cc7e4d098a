package process

import (
	"context"
	"log/slog"
	"time"
)

// retry says how to try what needs a server that may be away.
type retry struct {
	warning string             // for the log, after each try that failed
	words   func(error) string // what the log says of the error
	log     *slog.Logger       // folds what repeats
	pause   time.Duration      // between two tries
	final   func(error) bool   // whether trying again can't help; nil says that it may
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

// pause waits, and reports whether ctx has let it.
func pause(ctx context.Context, d time.Duration) bool {
	select {
	case <-ctx.Done():
		return false
	case <-time.After(d):
		return true
	}
}
