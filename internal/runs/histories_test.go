package runs_test

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"

	enumspb "go.temporal.io/api/enums/v1"
	historypb "go.temporal.io/api/history/v1"
	"go.temporal.io/sdk/client"

	"narthex/internal/dev/testenv"
	"narthex/internal/ids"
	"narthex/internal/runs"
	"narthex/internal/signup"
)

// recorded is a Temporal that has one recorded run.
type recorded struct {
	client.Client
	events []*historypb.HistoryEvent
}

func (r *recorded) GetWorkflowHistory(context.Context, string, string, bool, enumspb.HistoryEventFilterType) client.HistoryEventIterator {
	return r
}

func (r *recorded) HasNext() bool { return len(r.events) > 0 }

func (r *recorded) Next() (*historypb.HistoryEvent, error) {
	next := r.events[0]
	r.events = r.events[1:]
	return next, nil
}

// Signups of every release can be read, with and without quick steps. Only the first release's histories name no server.
func TestRecordedSignupsAreRead(t *testing.T) {
	t.Parallel()
	outcomes := map[string]string{
		"answer_lost": "created", "completed": "created", "quick_step_failed": "created", "question_stuck": "created", "reset": "created",
		"refused": "refused", "cancelled": "rolled_back", "rollback_stuck": "rolled_back", "rolled_back": "rolled_back",
	}
	files, err := filepath.Glob("../../workflows/testdata/*/*.json")
	if err != nil {
		t.Fatal(err)
	}
	read := 0
	for _, file := range files {
		want, isSignup := outcomes[strings.TrimSuffix(filepath.Base(file), ".json")]
		if !isSignup {
			continue
		}
		read++
		content, err := os.Open(file)
		if err != nil {
			t.Fatal(err)
		}
		history, err := client.HistoryFromJSON(content, client.HistoryJSONOptions{})
		content.Close()
		if err != nil {
			t.Fatal(err)
		}
		o := runs.Operator{Kind: signup.Kind, Temporal: &recorded{events: history.Events}, Keys: testenv.Keys(t)}
		status, err := o.Read(t.Context(), runs.Run{})
		if err != nil || status.Outcome != want || !ids.Valid(status.TenantID) {
			t.Errorf("%s: %s of the tenant %q (%v), want %s", file, status.Outcome, status.TenantID, err, want)
		}
		if named := strings.HasPrefix(status.Server, "127.0.0.1:"); named != !strings.Contains(file, "/testdata/1/") {
			t.Errorf("%s: the server is %q", file, status.Server)
		}
	}
	if read < 30 {
		t.Errorf("%d recorded signups were read, want at least 30", read)
	}
}
