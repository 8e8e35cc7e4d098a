package systemtest

import (
	"bytes"
	"flag"
	"net/http"
	"os"
	"testing"
	"time"

	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/temporal"
	"google.golang.org/protobuf/encoding/protojson"

	"narthex/internal/dev/teststack"
	"narthex/internal/ids"
	"narthex/internal/invitation"
	"narthex/internal/orphan"
	"narthex/internal/readydb"
	"narthex/internal/saga"
	"narthex/internal/signup"
)

var record = flag.String("record", "", "record histories in the folder `RELEASE` of workflows/testdata")

// TestRecordHistories writes the histories that workflows' replay test replays, in a folder for each release that changed
// them. It runs only with -record. The recorded histories stand for workflows that are running while a new release is
// rolled out.
func TestRecordHistories(t *testing.T) {
	if *record == "" {
		t.Skip("run with -record RELEASE to record histories")
	}
	if err := os.MkdirAll("../../../workflows/testdata/"+*record, 0o755); err != nil {
		t.Fatal(err)
	}
	for name, play := range histories {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s, workflowID := play(t)
			recordHistory(s, name, workflowID)
		})
	}
}

// histories are functions that run a workflow and return its id, by the history's name.
var histories = map[string]func(t *testing.T) (s *teststack.Stack, workflowID string){
	"completed": signupWith(func(*teststack.Stack, string) {}),
	"rolled_back": signupWith(func(s *teststack.Stack, _ string) {
		s.Faults.Always("CreateTenantAdmin", teststack.FailsAfter)
		s.Faults.First(2, "DeleteAdmin", teststack.FailsRetryably)
	}),
	"question_stuck": signupWith(func(s *teststack.Stack, _ string) {
		s.Faults.Always("ActivateTenant", teststack.FailsAfter)
		s.Faults.Set(signup.IsTenantOpen, untilStuck())
	}),
	"quick_step_failed": signupWith(func(s *teststack.Stack, _ string) {
		s.Faults.First(2, "MigrateDatabase", teststack.FailsRetryably)
	}),
	"refused": signupWith(func(s *teststack.Stack, _ string) {
		s.Faults.Always("CreateChurch", func(func() error) error {
			return temporal.NewApplicationErrorWithOptions("create church: the email is taken", saga.ErrorEmailTaken,
				temporal.ApplicationErrorOptions{NonRetryable: true, Category: temporal.ApplicationErrorCategoryBenign})
		})
	}),
	"cancelled": signupWith(func(s *teststack.Stack, workflowID string) {
		s.Faults.AsActivity("CreateTenant", cancellingRun(s, workflowID))
	}),
	"rollback_stuck": signupWith(func(s *teststack.Stack, _ string) {
		s.Faults.Always("CreateAdmin", teststack.FailsBefore)
		s.Faults.Set("DeleteChurch", untilStuck())
	}),
	"answer_lost": answerLost,
	"reset":       resetOfACompleted,
	"keep_pool":   keptReady,
	"sweep":       sweepWith(func(*teststack.Stack, string) {}),
	"sweep_cancelled": sweepWith(func(s *teststack.Stack, workflowID string) {
		s.Faults.Always(orphan.Remove, cancellingRun(s, workflowID))
	}),
	"fleet_canaries":         fleetThat(isChanging),
	"fleet_soaking":          fleetThat(soaks),
	"fleet_paused":           fleetThat(isPaused),
	"fleet_halted":           fleetThat(isHalted),
	"fleet_completed":        fleetThat(migrate),
	"fleet_cancelled":        fleetThat(isCancelled),
	"fleet_continued":        fleetThat(hasContinued),
	"invitation":             invitationThat(http.StatusCreated),
	"invitation_rolled_back": invitationThat(http.StatusInternalServerError),
}

// untilStuck fails an activity until it has been reported as stuck.
func untilStuck() func(int) teststack.Fault {
	began := time.Now()
	return func(int) teststack.Fault {
		if time.Since(began) < teststack.StuckAfter+5*time.Second {
			return teststack.FailsRetryably
		}
		return nil
	}
}

// cancellingRun cancels a workflow while one of its activities is running.
func cancellingRun(s *teststack.Stack, workflowID string) teststack.Fault {
	return func(run func() error) error {
		if err := s.Temporal.CancelWorkflow(s.T.Context(), workflowID, ""); err != nil {
			s.T.Error(err)
		}
		time.Sleep(200 * time.Millisecond)
		return run()
	}
}

func signupWith(prepare func(*teststack.Stack, string)) func(t *testing.T) (*teststack.Stack, string) {
	return func(t *testing.T) (*teststack.Stack, string) {
		t.Helper()
		s := teststack.New(t, teststack.WithWait(5*time.Minute))
		body := teststack.Applicant()
		hash, err := s.Keys.EmailIndex(body["email"].(string))
		if err != nil {
			t.Fatal(err)
		}
		prepare(s, signup.WorkflowID(hash))
		if got := s.Post("/api/auth/register", body); got.Status == http.StatusAccepted {
			t.Fatalf("the signup has not ended: %s", got.Body)
		}
		return s, signup.WorkflowID(hash)
	}
}

func answerLost(t *testing.T) (*teststack.Stack, string) {
	t.Helper()
	s := teststack.New(t)
	s.Faults.Always("ActivateTenant", teststack.FailsAfter)
	body := teststack.Applicant()
	s.Register(body)
	workflowID, _ := newest(s, body["email"])
	return s, workflowID
}

func resetOfACompleted(t *testing.T) (*teststack.Stack, string) {
	t.Helper()
	s := teststack.New(t)
	body := teststack.Applicant()
	s.Register(body)
	workflowID, runID := newest(s, body["email"])
	s.Faults.Always("ActivateTenant", teststack.FailsBefore)
	if err := reset(s, workflowID, runID, resetPoints(s, workflowID, runID)[0]); err != nil {
		t.Fatal(err)
	}
	return s, workflowID
}

func keptReady(t *testing.T) (*teststack.Stack, string) {
	t.Helper()
	s := teststack.New(t)
	makeTemplate(s)
	keepReady(s)
	teststack.Eventually(t, "a round is over", func() bool { return len(s.Faults.Succeeded(readydb.Keep)) > 0 })
	workflowID := readydb.WorkflowID(s.Queue)
	if err := s.Temporal.CancelWorkflow(t.Context(), workflowID, ""); err != nil {
		t.Fatal(err)
	}
	_ = s.Temporal.GetWorkflow(t.Context(), workflowID, "").Get(t.Context(), nil)
	return s, workflowID
}

func sweepWith(prepare func(*teststack.Stack, string)) func(t *testing.T) (*teststack.Stack, string) {
	return func(t *testing.T) (*teststack.Stack, string) {
		t.Helper()
		s := teststack.New(t)
		for range 2 {
			forget(s, s.Register(teststack.Applicant())["tenantId"].(string))
		}
		sweep(s, false)
		s.Clock.Move(orphan.Grace)
		workflowID := "sweep-" + ids.New()
		prepare(s, workflowID)
		options := client.StartWorkflowOptions{ID: workflowID, TaskQueue: s.Queue}
		run, err := s.Temporal.ExecuteWorkflow(t.Context(), options, orphan.Workflow, orphan.Sweep{})
		if err != nil {
			t.Fatal(err)
		}
		_ = run.Get(t.Context(), nil)
		return s, workflowID
	}
}

func invitationThat(status int) func(t *testing.T) (*teststack.Stack, string) {
	return func(t *testing.T) (*teststack.Stack, string) {
		t.Helper()
		c := teststack.New(t).Church()
		if status != http.StatusCreated {
			c.Faults.Always("CreateInvitedTenantAdmin", teststack.FailsAfter)
		}
		person := teststack.Invitee()
		c.Want(status, http.MethodPost, "/api/admins/invitations", person)
		hash, err := c.Keys.EmailIndex(person["email"].(string))
		if err != nil {
			t.Fatal(err)
		}
		return c.Stack, invitation.WorkflowID(hash)
	}
}

// recordHistory writes the history of a workflow's newest run.
func recordHistory(s *teststack.Stack, name, workflowID string) {
	s.T.Helper()
	content, err := protojson.MarshalOptions{Multiline: true}.Marshal(opened(s, history(s, workflowID, "")))
	if err != nil {
		s.T.Fatal(err)
	}
	host, err := os.Hostname() // it names the worker's sticky queue
	if err != nil {
		s.T.Fatal(err)
	}
	content = bytes.ReplaceAll(content, []byte(host), []byte("worker"))
	if err := os.WriteFile("../../../workflows/testdata/"+*record+"/"+name+".json", append(content, '\n'), 0o644); err != nil {
		s.T.Fatal(err)
	}
}
