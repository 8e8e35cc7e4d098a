package systemtest

import (
	"net/http"
	"strconv"
	"strings"
	"testing"

	enumspb "go.temporal.io/api/enums/v1"
	sdkpb "go.temporal.io/api/sdk/v1"
	"go.temporal.io/sdk/converter"
	sdk "go.temporal.io/sdk/temporal"

	"narthex/internal/codec"
	"narthex/internal/dev/teststack"
	"narthex/internal/saga"
)

// readable is what operators see of a signup.
type readable struct {
	fault      teststack.Fault
	status     int
	checklist  []string
	summaries  []string
	attributes map[string]string
}

// TestOperatorsReadWhatASignupDoes looks at what Temporal's UI shows of a signup: its summary and details,
// the summary of each activity and timer, the checklist and the search attributes.
func TestOperatorsReadWhatASignupDoes(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]readable{
		"completed": {
			status:     http.StatusCreated,
			checklist:  []string{"- [x] create role and database {database} on {server}\n", "- [x] open the church\n"},
			summaries:  []string{"create role and database {database} on {server}", "open the church"},
			attributes: map[string]string{"SignupOutcome": "created", "SignupStep": "CreateDatabase", "FailedStep": ""},
		},
		"rolled back": {
			fault: teststack.FailsAfter, status: http.StatusInternalServerError,
			checklist: []string{"- [x] create role and database {database} on {server}; undo: done\n",
				"- [ ] record in the registry where {database} is: **failed**; undo: done\n", "- [ ] open the church\n"},
			summaries: []string{"record in the registry where {database} is", "undo: drop database and role {database} on {server}\n",
				"until this is reported as stuck\n"},
			attributes: map[string]string{"SignupOutcome": "rolled_back", "SignupStep": "CreateTenant", "FailedStep": "CreateTenant"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			testReadable(t, c)
		})
	}
}

func testReadable(t *testing.T, c readable) {
	t.Helper()
	s := teststack.New(t)
	s.Faults.Always("CreateTenant", c.fault)
	body := teststack.Applicant()
	if got := s.Post("/api/auth/register", body); got.Status != c.status {
		t.Fatalf("register: status %d, want %d\n%s", got.Status, c.status, got.Body)
	}
	tenantID := inputOf(s, body["email"].(string)).TenantID
	config := s.Server.Config().ConnConfig
	fill := strings.NewReplacer("{database}", "tenant_"+tenantID, "{server}", config.Host+":"+strconv.Itoa(int(config.Port))).Replace

	workflowID, runID := newest(s, body["email"])
	described, err := s.Temporal.DescribeWorkflow(t.Context(), workflowID, runID)
	if err != nil {
		t.Fatal(err)
	}
	if summary, err := described.GetStaticSummary(); err != nil || summary != "sign up tenant_"+tenantID {
		t.Errorf("summary %q (%v), want %q", summary, err, "sign up tenant_"+tenantID)
	}
	if details, err := described.GetStaticDetails(); err != nil || !strings.Contains(details, "- database and role: `tenant_"+tenantID+"`") {
		t.Errorf("details %q (%v), want the database's name in them", details, err)
	}
	answer, err := s.Temporal.QueryWorkflow(t.Context(), workflowID, runID, "__temporal_workflow_metadata")
	if err != nil {
		t.Fatal(err)
	}
	var metadata sdkpb.WorkflowMetadata
	if err := answer.Get(&metadata); err != nil {
		t.Fatal(err)
	}
	wantIn(t, "the checklist", metadata.CurrentDetails, fill, c.checklist)
	wantIn(t, "the summaries of activities and timers", summaries(s, workflowID, runID), fill, c.summaries)
	for key, want := range c.attributes {
		got, _ := described.TypedSearchAttributes.GetKeyword(sdk.NewSearchAttributeKeyKeyword(key))
		if got != want {
			t.Errorf("search attribute %s is %q, want %q", key, got, want)
		}
	}
	if got, _ := described.TypedSearchAttributes.GetKeyword(saga.TenantID); got != tenantID {
		t.Errorf("search attribute TenantId is %q, want %q", got, tenantID)
	}
}

func wantIn(t *testing.T, where, text string, fill func(string) string, wanted []string) {
	t.Helper()
	for _, want := range wanted {
		if !strings.Contains(text, fill(want)) {
			t.Errorf("%s is\n%s\nwant in it %q", where, text, fill(want))
		}
	}
}

// summaries returns the summaries of a run's activities and timers, a line each. It fails the test if one has none.
func summaries(s *teststack.Stack, workflowID, runID string) string {
	s.T.Helper()
	opening := converter.NewCodecDataConverter(converter.GetDefaultDataConverter(), codec.New(s.Keys))
	var lines strings.Builder
	for _, event := range history(s, workflowID, runID).Events {
		quick := event.GetMarkerRecordedEventAttributes().GetMarkerName() == "LocalActivity"
		if !quick && event.EventType != enumspb.EVENT_TYPE_ACTIVITY_TASK_SCHEDULED && event.EventType != enumspb.EVENT_TYPE_TIMER_STARTED {
			continue
		}
		var summary string
		if err := opening.FromPayload(event.GetUserMetadata().GetSummary(), &summary); err != nil || summary == "" {
			s.T.Errorf("event %d, %s, has the summary %q (%v), want one", event.EventId, event.EventType, summary, err)
		}
		lines.WriteString(summary + "\n")
	}
	return lines.String()
}
