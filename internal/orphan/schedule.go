package orphan

import (
	"context"
	"errors"
	"fmt"
	"time"

	enumspb "go.temporal.io/api/enums/v1"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/temporal"
)

// Schedule makes a task queue's workers sweep once a day, between 3:00 and 4:00 UTC. It leaves an existing schedule alone,
// because an operator may have changed or paused it.
func Schedule(ctx context.Context, c client.Client, taskQueue string) error {
	_, err := c.ScheduleClient().Create(ctx, client.ScheduleOptions{
		ID:      "orphans-" + taskQueue,
		Spec:    client.ScheduleSpec{Calendars: []client.ScheduleCalendarSpec{{Hour: []client.ScheduleRange{{Start: 3}}}}, Jitter: time.Hour},
		Overlap: enumspb.SCHEDULE_OVERLAP_POLICY_SKIP,
		Action: &client.ScheduleWorkflowAction{
			ID: "sweep-orphans-" + taskQueue, Workflow: Workflow, Args: []any{Sweep{}}, TaskQueue: taskQueue,
			StaticSummary: "look for what belongs to no church and no signup, and remove what was first seen 7 days ago",
		},
	})
	if err != nil && !errors.Is(err, temporal.ErrScheduleAlreadyRunning) {
		return fmt.Errorf("make the schedule of sweeps: %w", err)
	}
	return nil
}
