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

// Deployment is what Temporal calls a worker deployment: the releases whose workers have polled a task queue.
// One of them is current. Its workers get all work, including what other releases have begun.
type Deployment struct {
	temporal  client.Client
	taskQueue string
	version   worker.WorkerDeploymentVersion
}

// NewDeployment returns a task queue's deployment, as seen by the given release.
func NewDeployment(temporal client.Client, taskQueue, release string) *Deployment {
	name := "narthex-" + strings.NewReplacer(".", "%2E", ":", "%3A").Replace(taskQueue) // a deployment's name may contain neither
	return &Deployment{temporal, taskQueue, worker.WorkerDeploymentVersion{DeploymentName: name, BuildID: release}}
}

// Options returns the options for a worker of the release. Its workflows can move to another release's workers,
// because a rollback can be stuck for longer than an old release is kept running.
func (d *Deployment) Options() worker.DeploymentOptions {
	return worker.DeploymentOptions{UseVersioning: true, Version: d.version, DefaultVersioningBehavior: workflow.VersioningBehaviorAutoUpgrade}
}

// TakeOver makes the release current if no release or an older one is, and returns the name of the current one.
// If somebody has promoted an older release over this one, that release stays current.
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

// wasCurrent reports whether another release has replaced this one. If so, Temporal waits, or has waited, for
// its workflows to end.
func (d *Deployment) wasCurrent(info client.WorkerDeploymentInfo) bool {
	for _, summary := range info.VersionSummaries {
		if summary.Version == d.version {
			return summary.DrainageStatus != client.WorkerDeploymentVersionDrainageStatusUnspecified
		}
	}
	return false
}

// ErrNoWorker means that the release has no worker to take its work.
var ErrNoWorker = errors.New("no worker of this release is running")

// Promote makes the release current, whichever is current now, and returns its name. Errors: ErrNoWorker.
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

// seenLately is how long ago a running worker can have polled last: it polls at least once a minute.
const seenLately = 70 * time.Second

// Polls reports whether a worker of a release, or of any release if buildID is "", takes work from the task queue. A
// stopped worker may still count as running for a minute.
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

// makeCurrent makes the release current. It fails until Temporal has registered the first worker's task queues.
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

// Settle retries TakeOver or Promote until it works or ctx ends, and returns its result. It calls failed for
// each failure.
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
