package service

import (
	"context"
	"errors"
	"time"

	"go.temporal.io/sdk/client"

	"narthex/internal/config"
	"narthex/internal/release"
)

// ReleaseName returns the name of this program's release: the configured one, or else its own.
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
	return release.NewDeployment(temporal, queue.TaskQueue, name), nil
}

const settlePatience = 5 * time.Second // with Temporal, which takes a moment to take a new release in

// settle returns when the worker's release is current, or is known to have to wait: from then on signups are
// taken at once.
func settle(ctx context.Context, c Config, deployment *release.Deployment) error {
	try := deployment.TakeOver
	if c.Promote {
		try = deployment.Promote
	}
	own, told := deployment.Options().Version.BuildID, time.Now()
	current, err := release.Settle(ctx, try, func(err error) {
		if time.Since(told) > settlePatience {
			told = time.Now()
			c.Log.Warn("The release could not be made current yet; trying again", "release", own, "error", err.Error())
		}
	})
	switch {
	case err != nil:
		return errors.New("stopped before the release could be made current")
	case current == own:
		c.Log.Info("The release is current", "release", own)
	default:
		c.Log.Warn("Another release is current: until `narthex worker promote`, this worker is given nothing", "release", own, "current", current)
	}
	return nil
}
