package process

import (
	"context"
	"sync/atomic"
	"time"

	"go.temporal.io/sdk/client"

	"narthex/internal/config"
	"narthex/internal/release"
)

// ReleaseName returns the name of this program's release: the configured name, or else the program's own.
func ReleaseName(c config.Release) (string, error) {
	if c.BuildID != "" {
		return string(c.BuildID), nil
	}
	return release.ID()
}

// OpenDeployment returns the deployment of the queue's workers, as seen by this program's release.
func OpenDeployment(temporal client.Client, queue config.Queue, c config.Release) (*release.Deployment, error) {
	name, err := ReleaseName(c)
	if err != nil {
		return nil, err
	}
	return release.NewDeployment(temporal, string(queue.TaskQueue), name), nil
}

// currency records whether the release of this process's worker is current, as far as is known. While it is, signups
// that this process starts go directly to its worker. Otherwise Temporal decides which worker gets them.
type currency struct{ yes atomic.Bool }

// watch keeps it up to date until ctx ends. It notices a rollback to another release within seconds.
func (c *currency) watch(ctx context.Context, deployment *release.Deployment) {
	for pause(ctx, currencyPause) {
		attempt, cancel := context.WithTimeout(ctx, currencyPause)
		current, err := deployment.IsCurrent(attempt)
		cancel()
		c.yes.Store(current && err == nil)
	}
}

const currencyPause = 3 * time.Second

const settlePatience = 5 * time.Second // with Temporal, which needs a moment to register a new release

// settle returns when the worker's release is current, or is known to have to wait. From then on signups are
// taken at once. It returns false if ctx ended first.
func (w *worker) settle(ctx context.Context) bool {
	try := w.deployment.TakeOver
	if w.Promote {
		try = w.deployment.Promote
	}
	own, told := w.deployment.Options().Version.BuildID, time.Now()
	current, err := release.Settle(ctx, try, func(err error) {
		if time.Since(told) > settlePatience {
			told = time.Now()
			w.Log.Warn("The release could not be made current yet; trying again", "release", own, "error", err.Error())
		}
	})
	switch {
	case err != nil:
		return false
	case current == own:
		w.current.yes.Store(true)
		w.Log.Info("The release is current", "release", own)
	default:
		w.Log.Warn("Another release is current: this worker gets no work until `narthex worker promote`", "release", own, "current", current)
	}
	return true
}
