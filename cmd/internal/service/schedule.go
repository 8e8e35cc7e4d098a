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

// keepSchedule makes the schedule of the sweep for orphans, once a day in the small hours (UTC), unless there
// is one: an operator may have changed or paused it.
func keepSchedule(ctx context.Context, c client.Client, config Config) {
	for {
		_, err := c.ScheduleClient().Create(ctx, client.ScheduleOptions{
			ID:      "orphans-" + config.Queue.TaskQueue,
			Spec:    client.ScheduleSpec{Calendars: []client.ScheduleCalendarSpec{{Hour: []client.ScheduleRange{{Start: 3}}}}, Jitter: time.Hour},
			Overlap: enumspb.SCHEDULE_OVERLAP_POLICY_SKIP,
			Action: &client.ScheduleWorkflowAction{
				ID: "sweep-orphans-" + config.Queue.TaskQueue, Workflow: orphan.Workflow, Args: []any{orphan.Sweep{}}, TaskQueue: config.Queue.TaskQueue,
				StaticSummary: "look for what belongs to no church and no signup, and remove what has done so for 7 days",
			},
		})
		if err == nil || errors.Is(err, temporal.ErrScheduleAlreadyRunning) {
			return
		}
		if ctx.Err() == nil {
			config.Log.Warn("The schedule of the sweep for orphans could not be made yet; trying again", "error", err.Error())
		}
		if !pause(ctx, 10*time.Second) {
			return
		}
	}
}
