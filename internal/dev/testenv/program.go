package testenv

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"narthex/internal/dev/program"
)

const patience = 3 * time.Minute // with a program, on a loaded machine

// Run is a program that a test runs as a separate process.
type Run struct {
	t      testing.TB
	cmd    *exec.Cmd
	output *output
	done   chan struct{}
}

// Start runs one of this module's programs. Of the variables of Narthex, Temporal, OpenTelemetry and PostgreSQL, it gets
// only those in environment (NAME=value). If it is still running when the test ends, it is killed.
func Start(t testing.TB, environment []string, name string, arguments ...string) *Run {
	t.Helper()
	return StartReading(t, nil, environment, name, arguments...)
}

// StartReading is like Start, with input on the program's standard input.
func StartReading(t testing.TB, input io.Reader, environment []string, name string, arguments ...string) *Run {
	t.Helper()
	path, err := program.Build(name)
	if err != nil {
		t.Fatal(err)
	}
	return startProgram(t, path, input, environment, arguments...)
}

// NextRelease builds a program as a later release would be: its tenant schema has more migrations, given as text by file
// name. The returned function starts the program as StartReading does.
func NextRelease(
	t testing.TB, name string, migrations map[string]string,
) func(t testing.TB, input io.Reader, environment []string, arguments ...string) *Run {
	t.Helper()
	path, err := program.BuildNext(name, Folder(t), migrations)
	if err != nil {
		t.Fatal(err)
	}
	return func(t testing.TB, input io.Reader, environment []string, arguments ...string) *Run {
		t.Helper()
		return startProgram(t, path, input, environment, arguments...)
	}
}

func startProgram(t testing.TB, path string, input io.Reader, environment []string, arguments ...string) *Run {
	t.Helper()
	if err := dependOnSources(); err != nil {
		t.Fatal(err)
	}
	r := &Run{t: t, cmd: exec.Command(path, arguments...), output: &output{grown: make(chan struct{}, 1)}, done: make(chan struct{})}
	r.cmd.Env = append(program.NeutralEnvironment(), environment...)
	r.cmd.Stdin, r.cmd.Stdout, r.cmd.Stderr = input, r.output, r.output
	if err := r.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		_ = r.cmd.Wait() // ExitCode tells
		close(r.done)
	}()
	t.Cleanup(func() {
		r.Signal(syscall.SIGKILL)
		<-r.done
		if t.Failed() {
			t.Logf("%s %v printed:\n%s", filepath.Base(path), arguments, r.Output())
		}
	})
	return r
}

// dependOnSources makes go test's cache treat the whole module as an input of the test. The cache watches the
// folders that a test reads, but not the programs that it runs.
func dependOnSources() error {
	root, err := program.Root()
	if err != nil {
		return err
	}
	return filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
		if err == nil && entry.IsDir() && path != root && strings.HasPrefix(entry.Name(), ".") {
			return fs.SkipDir
		}
		return err
	})
}

// ProcessID returns the process's id.
func (r *Run) ProcessID() int { return r.cmd.Process.Pid }

// Signal sends the process a signal.
func (r *Run) Signal(signal os.Signal) {
	if err := r.cmd.Process.Signal(signal); err != nil && !errors.Is(err, os.ErrProcessDone) {
		r.t.Errorf("signal process %d: %v", r.ProcessID(), err)
	}
}

// Output returns what the process has printed so far, on either stream.
func (r *Run) Output() string { return r.output.String() }

// WaitFor waits until the process has printed text, and fails the test if the process ends before that.
func (r *Run) WaitFor(text string) {
	r.t.Helper()
	for deadline := time.After(patience); !strings.Contains(r.Output(), text); {
		select {
		case <-r.output.grown:
		case <-r.done:
			if !strings.Contains(r.Output(), text) {
				r.t.Fatalf("process %d has ended without printing %q", r.ProcessID(), text)
			}
		case <-deadline:
			r.t.Fatalf("process %d has not printed %q after %s", r.ProcessID(), text, patience)
		}
	}
}

// Exit waits until the process has ended, and returns its exit status.
func (r *Run) Exit() int {
	r.t.Helper()
	select {
	case <-r.done:
	case <-time.After(patience):
		r.t.Fatalf("process %d has not ended after %s", r.ProcessID(), patience)
	}
	return r.cmd.ProcessState.ExitCode()
}

// output collects what a process prints.
type output struct {
	Log
	grown chan struct{}
}

func (o *output) Write(p []byte) (int, error) {
	n, err := o.Log.Write(p)
	select {
	case o.grown <- struct{}{}:
	default:
	}
	return n, err
}
