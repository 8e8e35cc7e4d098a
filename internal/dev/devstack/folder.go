// Package devstack prepares the development stack's data folder: the folder itself, the keys, the
// databases of its PostgreSQL server, and the files by which others find the stack.
package devstack

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sort"
	"strings"

	"github.com/gofrs/flock"
)

// Folder is the stack's data folder, held by one stack at a time.
type Folder struct {
	Path string // absolute
	lock *flock.Flock
}

// Stack is what stack.json says about a running stack.
type Stack struct {
	HTTP       string   `json:"http"`       // URL
	APIs       []string `json:"apis"`       // URLs of all API processes; HTTP is the first
	Operations string   `json:"operations"` // URL of metrics and profiles, of the first API's process
	Temporal   string   `json:"temporal"`   // host:port
	Namespace  string   `json:"namespace"`  // Temporal's
	UI         string   `json:"ui"`         // URL; empty if the stack runs no UI of its own
	Postgres   string   `json:"postgres"`   // admin URL
	Registry   string   `json:"registry"`   // URL
	PID        int      `json:"pid"`
}

const (
	stackFile = "stack.json"
	envFile   = "narthex.env"
)

// OpenFolder creates the folder if it is missing, and locks it. The error is one sentence.
func OpenFolder(path string) (*Folder, error) {
	absolute, err := filepath.Abs(path)
	if err != nil {
		return nil, fmt.Errorf("the data folder %s has no absolute path", path)
	}
	// Others may pass through it but not list it: PostgreSQL may have to run as another user.
	if err := os.MkdirAll(absolute, 0o711); err != nil {
		return nil, fmt.Errorf("the data folder %s cannot be created: choose another with --data", absolute)
	}
	f := &Folder{Path: absolute, lock: flock.New(filepath.Join(absolute, "lock"), flock.SetPermissions(0o600))}
	held, err := f.lock.TryLock()
	if err != nil {
		return nil, fmt.Errorf("the data folder %s cannot be written to: choose another with --data", absolute)
	}
	if !held {
		return nil, fmt.Errorf("another narthex-dev%s uses the data folder %s: stop it, or choose another with --data", f.holder(), absolute)
	}
	if err := f.Forget(); err != nil {
		return nil, err
	}
	return f, nil
}

// Close unlocks the folder.
func (f *Folder) Close() {
	_ = f.lock.Close() // the process is ending, which releases the lock
}

// holder names the process that uses the folder, if it has announced itself.
func (f *Folder) holder() string {
	var stack Stack
	content, err := os.ReadFile(f.in(stackFile))
	if err != nil || json.Unmarshal(content, &stack) != nil {
		return ""
	}
	return fmt.Sprintf(" (process %d)", stack.PID)
}

// Announce writes stack.json, and writes environment to narthex.env.
func (f *Folder) Announce(stack Stack, environment map[string]string) error {
	content, err := json.MarshalIndent(stack, "", "  ")
	if err != nil {
		return fmt.Errorf("write %s: %w", stackFile, err)
	}
	if err := f.write(envFile, envLines(environment)); err != nil {
		return err
	}
	return f.write(stackFile, append(content, '\n'))
}

// Forget removes stack.json, because the stack is not running.
func (f *Folder) Forget() error {
	if err := os.Remove(f.in(stackFile)); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("the data folder %s cannot be written to: choose another with --data", f.Path)
	}
	return nil
}

func (f *Folder) in(name string) string { return filepath.Join(f.Path, name) }

// write replaces a file of the folder atomically. Only the owner can read it.
func (f *Folder) write(name string, content []byte) error {
	temporary := f.in(name + ".new")
	if err := os.WriteFile(temporary, content, 0o600); err != nil {
		return fmt.Errorf("the data folder %s cannot be written to: free some space, or choose another with --data", f.Path)
	}
	return os.Rename(temporary, f.in(name))
}

// envLines formats variables as sorted lines of NAME='value'. None of our values contains a quote.
func envLines(environment map[string]string) []byte {
	var lines []string
	for name, value := range environment {
		lines = append(lines, name+"='"+value+"'\n")
	}
	sort.Strings(lines)
	return []byte(strings.Join(lines, ""))
}
