package httpapi_test

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
	if err := os.MkdirAll("../workflows/testdata/"+*record, 0o755); err != nil {
		t.Fatal(err)
	}
	for name, prepare := range map[string]func(*stack, string){
		"completed": func(*stack, string) {},
		"rolled_back": func(s *stack, _ string) {
			s.faults.always("CreateTenantAdmin", failsAfter)
			s.faults.first(2, "DeleteAdmin", failsRetryably)
		},
		"question_stuck": func(s *stack, _ string) {
			s.faults.always("ActivateTenant", failsAfter)
			began := time.Now()
			s.faults.set(signup.IsTenantOpen, func(int) fault {
				if time.Since(began) < stuckAfter+5*time.Second {
					return failsRetryably
				}
				return nil
			})
		},
		"quick_step_failed": func(s *stack, _ string) { s.faults.first(2, "MigrateDatabase", failsRetryably) },
		"refused": func(s *stack, _ string) {
			s.faults.always("CreateChurch", func(func() error) error {
				return temporal.NewApplicationErrorWithOptions("create church: the email is taken", saga.ErrorEmailTaken,
					temporal.ApplicationErrorOptions{NonRetryable: true, Category: temporal.ApplicationErrorCategoryBenign})
			})
		},
		"cancelled": func(s *stack, workflowID string) {
			s.faults.asActivity("CreateTenant", func(run func() error) error {
				if err := s.temporal.CancelWorkflow(s.t.Context(), workflowID, ""); err != nil {
					s.t.Error(err)
				}
				time.Sleep(200 * time.Millisecond)
				return run()
			})
		},
		"rollback_stuck": func(s *stack, _ string) {
			s.faults.always("CreateAdmin", failsBefore)
			began := time.Now()
			s.faults.set("DeleteChurch", func(int) fault {
				if time.Since(began) < stuckAfter+5*time.Second {
					return failsRetryably
				}
				return nil
			})
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newStack(t, withWait(5*time.Minute))
			body := applicant()
			hash, err := s.keys.EmailIndex(body["email"].(string))
			if err != nil {
				t.Fatal(err)
			}
			prepare(s, signup.WorkflowID(hash))
			if got := s.post("/api/auth/register", body); got.status == http.StatusAccepted {
				t.Fatalf("the signup has not ended: %s", got.body)
			}
			s.record(name, signup.WorkflowID(hash))
		})
	}
	t.Run("answer_lost", func(t *testing.T) {
		t.Parallel()
		s := newStack(t)
		s.faults.always("ActivateTenant", failsAfter)
		body := applicant()
		s.register(body)
		workflowID, _ := s.newest(body["email"])
		s.record("answer_lost", workflowID)
	})
	t.Run("reset", func(t *testing.T) {
		t.Parallel()
		s := newStack(t)
		body := applicant()
		s.register(body)
		workflowID, runID := s.newest(body["email"])
		s.faults.always("ActivateTenant", failsBefore)
		if err := s.reset(workflowID, runID, s.resetPoints(workflowID, runID)[0]); err != nil {
			t.Fatal(err)
		}
		s.record("reset", workflowID)
	})
	t.Run("keep_pool", func(t *testing.T) {
		t.Parallel()
		s := newStack(t)
		s.makeTemplate()
		s.keepReady()
		eventually(t, "a round is over", func() bool { return len(s.faults.succeeded(readydb.Keep)) > 0 })
		if err := s.temporal.CancelWorkflow(t.Context(), readydb.WorkflowID(s.queue), ""); err != nil {
			t.Fatal(err)
		}
		_ = s.temporal.GetWorkflow(t.Context(), readydb.WorkflowID(s.queue), "").Get(t.Context(), nil)
		s.record("keep_pool", readydb.WorkflowID(s.queue))
	})
	for name, prepare := range map[string]func(*stack, string){
		"sweep": func(*stack, string) {},
		"sweep_cancelled": func(s *stack, workflowID string) {
			s.faults.always(orphan.Remove, func(run func() error) error {
				if err := s.temporal.CancelWorkflow(s.t.Context(), workflowID, ""); err != nil {
					s.t.Error(err)
				}
				time.Sleep(200 * time.Millisecond)
				return run()
			})
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newStack(t)
			for range 2 {
				s.forget(s.register(applicant())["tenantId"].(string))
			}
			s.sweep(false)
			s.clock.move(orphan.Grace)
			workflowID := "sweep-" + ids.New()
			prepare(s, workflowID)
			run, err := s.temporal.ExecuteWorkflow(t.Context(), client.StartWorkflowOptions{ID: workflowID, TaskQueue: s.queue},
				orphan.Workflow, orphan.Sweep{})
			if err != nil {
				t.Fatal(err)
			}
			_ = run.Get(t.Context(), nil)
			s.record(name, workflowID)
		})
	}
	for name, status := range map[string]int{"invitation": http.StatusCreated, "invitation_rolled_back": http.StatusInternalServerError} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := newStack(t).church()
			if status != http.StatusCreated {
				c.faults.always("CreateInvitedTenantAdmin", failsAfter)
			}
			person := invitee()
			c.want(status, http.MethodPost, "/api/admins/invitations", person)
			hash, err := c.keys.EmailIndex(person["email"].(string))
			if err != nil {
				t.Fatal(err)
			}
			c.record(name, invitation.WorkflowID(hash))
		})
	}
}

// record writes the history of a workflow's newest run.
func (s *stack) record(name, workflowID string) {
	s.t.Helper()
	content, err := protojson.MarshalOptions{Multiline: true}.Marshal(s.opened(s.history(workflowID, "")))
	if err != nil {
		s.t.Fatal(err)
	}
	host, err := os.Hostname() // it names the worker's sticky queue
	if err != nil {
		s.t.Fatal(err)
	}
	content = bytes.ReplaceAll(content, []byte(host), []byte("worker"))
	if err := os.WriteFile("../workflows/testdata/"+*record+"/"+name+".json", append(content, '\n'), 0o644); err != nil {
		s.t.Fatal(err)
	}
}
