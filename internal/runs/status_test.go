package runs

import (
	"testing"

	enumspb "go.temporal.io/api/enums/v1"
	historypb "go.temporal.io/api/history/v1"
	"google.golang.org/protobuf/types/known/timestamppb"
)

// A history without its first events must not crash the API.
func TestAnEventOfAnUnknownActivityIsIgnored(t *testing.T) {
	r := newReader(nil, nil)
	err := r.apply(&historypb.HistoryEvent{
		EventType: enumspb.EVENT_TYPE_ACTIVITY_TASK_COMPLETED, EventTime: timestamppb.Now(),
		Attributes: &historypb.HistoryEvent_ActivityTaskCompletedEventAttributes{
			ActivityTaskCompletedEventAttributes: &historypb.ActivityTaskCompletedEventAttributes{ScheduledEventId: 5},
		},
	})
	if err != nil || r.status().State != Running {
		t.Errorf("the run is %v (%v), want running", r.status(), err)
	}
}
