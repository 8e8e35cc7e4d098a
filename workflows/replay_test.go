package workflows

import (
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/log"
	"go.temporal.io/sdk/worker"
	"go.temporal.io/sdk/workflow"

	"narthex/internal/fleet"
	"narthex/internal/saga"
	"narthex/internal/signup"
)

// The histories in testdata were recorded with `go test ./internal/dev/systemtest -run TestRecordHistories -record
// RELEASE`, in a folder for each release that changed them. They stand for running signups: after any change of the
// workflow, all of them must still replay.
func histories(t *testing.T) []string {
	t.Helper()
	files, err := filepath.Glob("testdata/*/*.json")
	if err != nil || len(files) < 15 {
		t.Fatalf("found %d histories (%v), want at least 15", len(files), err)
	}
	return files
}

func replay(t *testing.T, file string, register func(worker.WorkflowReplayer)) error {
	t.Helper()
	replayer := worker.NewWorkflowReplayer()
	register(replayer)
	content, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer content.Close()
	history, err := client.HistoryFromJSON(content, client.HistoryJSONOptions{})
	if err != nil {
		t.Fatalf("read %s: %v", file, err)
	}
	// A history doesn't contain its own run's id: after a reset, it contains that of the original run.
	run := workflow.Execution{RunID: history.Events[0].GetWorkflowExecutionStartedEventAttributes().OriginalExecutionRunId}
	if filepath.Base(file) == "reset.json" {
		run.RunID = "reset"
	}
	return replayer.ReplayWorkflowHistoryWithOptions(log.NewStructuredLogger(slog.New(slog.DiscardHandler)), history,
		worker.ReplayWorkflowHistoryOptions{OriginalExecution: run})
}

func TestRecordedHistoriesReplay(t *testing.T) {
	for _, file := range histories(t) {
		t.Run(file, func(t *testing.T) {
			if err := replay(t, file, func(r worker.WorkflowReplayer) { new(Workflows).Register(r) }); err != nil {
				t.Error(err)
			}
		})
	}
}

// Changes of the workflow that break running signups must be caught.
func TestBrokenVariantsDoNotReplay(t *testing.T) {
	swapped := slices.Clone(signup.Steps)
	swapped[2], swapped[3] = swapped[3], swapped[2]
	noUndo := slices.Clone(signup.Steps)
	noUndo[1].Undo = ""
	for name, c := range map[string]struct {
		file  string
		steps []saga.Step
	}{
		"two steps swapped":       {"testdata/1/completed.json", swapped},
		"a compensation missing":  {"testdata/2/rolled_back.json", noUndo},
		"two quick steps swapped": {"testdata/3/completed.json", swapped},
	} {
		t.Run(name, func(t *testing.T) {
			broken := func(ctx workflow.Context, in signup.Input) error {
				s := saga.New(c.steps, in, saga.Options{})
				if workflow.GetVersion(ctx, "quick steps", workflow.DefaultVersion, 1) == 1 {
					s.RunQuickly()
				}
				for _, step := range c.steps {
					if err := s.Do(ctx, step); err != nil {
						return s.RollBack(ctx, step, err)
					}
				}
				return nil
			}
			err := replay(t, c.file, func(r worker.WorkflowReplayer) {
				r.RegisterWorkflowWithOptions(broken, workflow.RegisterOptions{Name: signup.Workflow})
			})
			if err == nil {
				t.Error("the broken variant replays, want an error")
			}
		})
	}
}

// A run over the fleet that another release goes on with must not leave out a stage, however far it has come.
func TestBrokenRunsDoNotReplay(t *testing.T) {
	files, err := filepath.Glob("testdata/*/fleet_*.json")
	if err != nil || len(files) < 7 {
		t.Fatalf("found %d histories (%v), want at least 7", len(files), err)
	}
	unopened := func(ctx workflow.Context, in fleet.Input) (fleet.Progress, error) {
		w := new(Workflows)
		if in.Resumed == nil {
			in.Resumed = &fleet.Position{Progress: fleet.Progress{Stage: fleet.Canaries, State: fleet.Running}, Patience: 3}
		} else {
			in.Resumed = nil
		}
		return w.FleetMigration(ctx, in)
	}
	for _, file := range files {
		t.Run(file, func(t *testing.T) {
			err := replay(t, file, func(r worker.WorkflowReplayer) {
				r.RegisterWorkflowWithOptions(unopened, workflow.RegisterOptions{Name: fleet.Workflow})
			})
			if err == nil {
				t.Error("the broken variant replays, want an error")
			}
		})
	}
}
