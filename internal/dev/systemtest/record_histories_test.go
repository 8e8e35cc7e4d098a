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

// TestRecordHistories writes the histories that workflows' replay test replays, in a folder for each release
// that changed them. It only runs when told to: the recorded ones stand for the workflows that are in flight
// while a new release is rolled out.
func TestRecordHistories(t *testing.T) {
	if *record == "" {
		t.Skip("run with -record RELEASE to record histories")
	}
	if err := os.MkdirAll("../../../workflows/testdata/"+*record, 0o755); err != nil {
		t.Fatal(err)
	}
	for name, prepare := range map[string]func(*teststack.Stack, string){
		"completed": func(*teststack.Stack, string) {},
		"rolled_back": func(s *teststack.Stack, _ string) {
			s.Faults.Always("CreateTenantAdmin", teststack.FailsAfter)
			s.Faults.First(2, "DeleteAdmin", teststack.FailsRetryably)
		},
		"question_stuck": func(s *teststack.Stack, _ string) {
			s.Faults.Always("ActivateTenant", teststack.FailsAfter)
			began := time.Now()
			s.Faults.Set(signup.IsTenantOpen, func(int) teststack.Fault {
				if time.Since(began) < teststack.StuckAfter+5*time.Second {
					return teststack.FailsRetryably
				}
				return nil
			})
		},
		"quick_step_failed": func(s *teststack.Stack, _ string) { s.Faults.First(2, "MigrateDatabase", teststack.FailsRetryably) },
		"refused": func(s *teststack.Stack, _ string) {
			s.Faults.Always("CreateChurch", func(func() error) error {
				return temporal.NewApplicationErrorWithOptions("create church: the email is taken", saga.ErrorEmailTaken,
					temporal.ApplicationErrorOptions{NonRetryable: true, Category: temporal.ApplicationErrorCategoryBenign})
			})
		},
		"cancelled": func(s *teststack.Stack, workflowID string) {
			s.Faults.AsActivity("CreateTenant", func(run func() error) error {
				if err := s.Temporal.CancelWorkflow(s.T.Context(), workflowID, ""); err != nil {
					s.T.Error(err)
				}
				time.Sleep(200 * time.Millisecond)
				return run()
			})
		},
		"rollback_stuck": func(s *teststack.Stack, _ string) {
			s.Faults.Always("CreateAdmin", teststack.FailsBefore)
			began := time.Now()
			s.Faults.Set("DeleteChurch", func(int) teststack.Fault {
				if time.Since(began) < teststack.StuckAfter+5*time.Second {
					return teststack.FailsRetryably
				}
				return nil
			})
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
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
			recordHistory(s, name, signup.WorkflowID(hash))
		})
	}
	t.Run("answer_lost", func(t *testing.T) {
		t.Parallel()
		s := teststack.New(t)
		s.Faults.Always("ActivateTenant", teststack.FailsAfter)
		body := teststack.Applicant()
		s.Register(body)
		workflowID, _ := newest(s, body["email"])
		recordHistory(s, "answer_lost", workflowID)
	})
	t.Run("reset", func(t *testing.T) {
		t.Parallel()
		s := teststack.New(t)
		body := teststack.Applicant()
		s.Register(body)
		workflowID, runID := newest(s, body["email"])
		s.Faults.Always("ActivateTenant", teststack.FailsBefore)
		if err := reset(s, workflowID, runID, resetPoints(s, workflowID, runID)[0]); err != nil {
			t.Fatal(err)
		}
		recordHistory(s, "reset", workflowID)
	})
	t.Run("keep_pool", func(t *testing.T) {
		t.Parallel()
		s := teststack.New(t)
		makeTemplate(s)
		keepReady(s)
		teststack.Eventually(t, "a round is over", func() bool { return len(s.Faults.Succeeded(readydb.Keep)) > 0 })
		if err := s.Temporal.CancelWorkflow(t.Context(), readydb.WorkflowID(s.Queue), ""); err != nil {
			t.Fatal(err)
		}
		_ = s.Temporal.GetWorkflow(t.Context(), readydb.WorkflowID(s.Queue), "").Get(t.Context(), nil)
		recordHistory(s, "keep_pool", readydb.WorkflowID(s.Queue))
	})
	for name, prepare := range map[string]func(*teststack.Stack, string){
		"sweep": func(*teststack.Stack, string) {},
		"sweep_cancelled": func(s *teststack.Stack, workflowID string) {
			s.Faults.Always(orphan.Remove, func(run func() error) error {
				if err := s.Temporal.CancelWorkflow(s.T.Context(), workflowID, ""); err != nil {
					s.T.Error(err)
				}
				time.Sleep(200 * time.Millisecond)
				return run()
			})
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := teststack.New(t)
			for range 2 {
				forget(s, s.Register(teststack.Applicant())["tenantId"].(string))
			}
			sweep(s, false)
			s.Clock.Move(orphan.Grace)
			workflowID := "sweep-" + ids.New()
			prepare(s, workflowID)
			run, err := s.Temporal.ExecuteWorkflow(t.Context(), client.StartWorkflowOptions{ID: workflowID, TaskQueue: s.Queue},
				orphan.Workflow, orphan.Sweep{})
			if err != nil {
				t.Fatal(err)
			}
			_ = run.Get(t.Context(), nil)
			recordHistory(s, name, workflowID)
		})
	}
	for name, status := range map[string]int{"invitation": http.StatusCreated, "invitation_rolled_back": http.StatusInternalServerError} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
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
			recordHistory(c.Stack, name, invitation.WorkflowID(hash))
		})
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
