package release

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	enumspb "go.temporal.io/api/enums/v1"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/worker"
	"go.temporal.io/sdk/workflow"
)

// Deployment is what Temporal calls a worker deployment: the releases whose workers have asked a task queue
// for work, of which one is current. The current one's workers get all of it, also what others have begun.
type Deployment struct {
	temporal  client.Client
	taskQueue string
	version   worker.WorkerDeploymentVersion
}

// NewDeployment returns a task queue's deployment, as seen by the release of that name.
func NewDeployment(temporal client.Client, taskQueue, release string) *Deployment {
	name := "narthex-" + strings.NewReplacer(".", "%2E", ":", "%3A").Replace(taskQueue) // it may have neither
	return &Deployment{temporal, taskQueue, worker.WorkerDeploymentVersion{DeploymentName: name, BuildID: release}}
}

// Options make a worker one of the release. Its workflows are free to move to another release's workers: a
// rollback can be stuck for longer than an old release is kept running.
func (d *Deployment) Options() worker.DeploymentOptions {
	return worker.DeploymentOptions{UseVersioning: true, Version: d.version, DefaultVersioningBehavior: workflow.VersioningBehaviorAutoUpgrade}
}

// TakeOver makes the release the current one, if there is none or an older one, and returns which is current
// then. Where somebody has promoted an older release over this one, that stays so.
func (d *Deployment) TakeOver(ctx context.Context) (current string, err error) {
	seen, err := d.handle().Describe(ctx, client.WorkerDeploymentDescribeOptions{})
	if err != nil {
		return "", fmt.Errorf("describe the deployment: %w", err)
	}
	version := seen.Info.RoutingConfig.CurrentVersion
	if version != nil && (version.BuildID >= d.version.BuildID || d.wasCurrent(seen.Info)) {
		return version.BuildID, nil
	}
	return d.makeCurrent(ctx, seen.ConflictToken)
}

// IsCurrent reports whether the release is the current one.
func (d *Deployment) IsCurrent(ctx context.Context) (bool, error) {
	seen, err := d.handle().Describe(ctx, client.WorkerDeploymentDescribeOptions{})
	if err != nil {
		return false, fmt.Errorf("describe the deployment: %w", err)
	}
	current := seen.Info.RoutingConfig.CurrentVersion
	return current != nil && *current == d.version, nil
}

// wasCurrent reports whether another release has followed this one: Temporal then waits, or has waited, for
// its workflows to end.
func (d *Deployment) wasCurrent(info client.WorkerDeploymentInfo) bool {
	for _, summary := range info.VersionSummaries {
		if summary.Version == d.version {
			return summary.DrainageStatus != client.WorkerDeploymentVersionDrainageStatusUnspecified
		}
	}
	return false
}

// ErrNoWorker is returned where nobody would take what the release is given.
var ErrNoWorker = errors.New("no worker of this release is running")

// Promote makes the release the current one, whichever is now, and returns its name. Errors: ErrNoWorker.
func (d *Deployment) Promote(ctx context.Context) (current string, err error) {
	if err := d.checkWorker(ctx); err != nil {
		return "", err
	}
	return d.makeCurrent(ctx, nil)
}

func (d *Deployment) checkWorker(ctx context.Context) error {
	polls, err := Polls(ctx, d.temporal, d.taskQueue, d.version.BuildID)
	if err == nil && !polls {
		return ErrNoWorker
	}
	return err
}

// seenLately is within which time a worker that is there has asked for work: it asks at least once a minute.
const seenLately = 70 * time.Second

// Polls reports whether a worker of a release, or of any if buildID is "", takes work from the task queue. One that has
// just stopped may still be taken for running for a minute.
func Polls(ctx context.Context, temporal client.Client, taskQueue, buildID string) (bool, error) {
	queue, err := temporal.DescribeTaskQueue(ctx, taskQueue, enumspb.TASK_QUEUE_TYPE_WORKFLOW)
	if err != nil {
		return false, fmt.Errorf("look for workers: %w", err)
	}
	for _, poller := range queue.Pollers {
		named := buildID == "" || poller.DeploymentOptions.GetBuildId() == buildID
		if named && time.Since(poller.LastAccessTime.AsTime()) < seenLately {
			return true, nil
		}
	}
	return false, nil
}

// makeCurrent fails while Temporal has not yet taken in all that the release's first worker asked for.
func (d *Deployment) makeCurrent(ctx context.Context, token []byte) (current string, err error) {
	options := client.WorkerDeploymentSetCurrentVersionOptions{BuildID: d.version.BuildID, ConflictToken: token}
	_, err = d.handle().SetCurrentVersion(ctx, options)
	if err != nil {
		return "", fmt.Errorf("make %s current: %w", d.version.BuildID, err)
	}
	return d.version.BuildID, nil
}

func (d *Deployment) handle() client.WorkerDeploymentHandle {
	return d.temporal.WorkerDeploymentClient().GetHandle(d.version.DeploymentName)
}

// How often a release tries to become current, and how long one attempt may take.
const (
	attemptPause = 200 * time.Millisecond
	attemptLimit = 10 * time.Second
)

// Settle tries TakeOver or Promote until it works, and returns what that does, or until ctx ends. Each
// failure is told.
func Settle(ctx context.Context, try func(context.Context) (string, error), failed func(error)) (current string, err error) {
	for {
		attempt, cancel := context.WithTimeout(ctx, attemptLimit)
		current, err := try(attempt)
		cancel()
		if err == nil {
			return current, nil
		}
		failed(err)
		select {
		case <-ctx.Done():
			return "", err
		case <-time.After(attemptPause):
		}
	}
}
