package telemetry

import (
	"context"
	"log/slog"
	"time"

	"narthex/internal/redact"
)

const countLimit = 10 * time.Second

// keepCounting calls count, for at most countLimit, after each pause until ctx ends, and logs why it failed.
func keepCounting(ctx context.Context, pause time.Duration, log *slog.Logger, what string, count func(context.Context) error) {
	for {
		attempt, cancel := context.WithTimeout(ctx, countLimit)
		err := count(attempt)
		cancel()
		if err != nil && ctx.Err() == nil {
			log.Warn("The "+what+" could not be counted; trying again", "error", redact.Error(err))
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(pause):
		}
	}
}
