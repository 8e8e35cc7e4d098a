package service

import (
	"context"
	"errors"
	"time"

	enumspb "go.temporal.io/api/enums/v1"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/temporal"

	"narthex/internal/orphan"
)

// schedule makes the schedule of the sweep for orphans, once a day in the small hours (UTC), unless there is one:
// an operator may have changed or paused it.
func schedule(ctx context.Context, c client.Client, taskQueue string) error {
	_, err := c.ScheduleClient().Create(ctx, client.ScheduleOptions{
		ID:      "orphans-" + taskQueue,
		Spec:    client.ScheduleSpec{Calendars: []client.ScheduleCalendarSpec{{Hour: []client.ScheduleRange{{Start: 3}}}}, Jitter: time.Hour},
		Overlap: enumspb.SCHEDULE_OVERLAP_POLICY_SKIP,
		Action: &client.ScheduleWorkflowAction{
			ID: "sweep-orphans-" + taskQueue, Workflow: orphan.Workflow, Args: []any{orphan.Sweep{}}, TaskQueue: taskQueue,
			StaticSummary: "look for what belongs to no church and no signup, and remove what has done so for 7 days",
		},
	})
	if errors.Is(err, temporal.ErrScheduleAlreadyRunning) {
		return nil
	}
	return err
}
