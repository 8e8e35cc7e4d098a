// Package program builds this module's own programs, for tests and benchmarks that run them as processes.
package program

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/gofrs/flock"
)

// Build builds a program of this module, like narthex or narthex-dev, without race instrumentation, and
// returns the executable's path. `go tool -n` keeps it in Go's build cache: it is linked once, and
// nothing is left behind.
func Build(name string) (path string, err error) { return build(name, "") }

// BuildNext builds a program as a later release would have it, with more tenant migrations. They are given as text by file
// name, and written to folder, which must exist.
func BuildNext(name, folder string, migrations map[string]string) (path string, err error) {
	root, err := Root()
	if err != nil {
		return "", err
	}
	replace := map[string]string{}
	for file, text := range migrations {
		there := filepath.Join(folder, file)
		if err := os.WriteFile(there, []byte(text), 0o600); err != nil {
			return "", err
		}
		replace[filepath.Join(root, "migrations", "tenant", file)] = there
	}
	overlay, err := json.Marshal(map[string]any{"Replace": replace})
	if err != nil {
		return "", err
	}
	at := filepath.Join(folder, "overlay.json")
	if err := os.WriteFile(at, overlay, 0o600); err != nil {
		return "", err
	}
	return build(name, at)
}

// Root returns this module's folder. The process must run in it or below it.
func Root() (string, error) {
	root, err := filepath.Abs(".")
	if err != nil {
		return "", err
	}
	for _, err := os.Stat(filepath.Join(root, "go.mod")); err != nil; _, err = os.Stat(filepath.Join(root, "go.mod")) {
		if root == filepath.Dir(root) {
			return "", errors.New("there is no go.mod: run it in the module's folder")
		}
		root = filepath.Dir(root)
	}
	return root, nil
}

// build builds a program. overlay is a file for `go build -overlay`, or "".
func build(name, overlay string) (path string, err error) {
	// One process builds while the others wait. Different users don't wait for each other.
	lock := flock.New(filepath.Join(os.TempDir(), fmt.Sprintf("narthex-test-build-%d.lock", os.Getuid())))
	if err := lock.Lock(); err != nil {
		return "", fmt.Errorf("lock the build: %w", err)
	}
	defer func() { _ = lock.Unlock() }()
	command := exec.Command("go", "tool", "-n", "narthex/cmd/"+name)
	flags := withoutRace(os.Getenv("GOFLAGS"))
	if overlay != "" {
		flags += " -overlay=" + overlay
	}
	command.Env = append(os.Environ(), "GOFLAGS="+flags)
	command.Stderr = os.Stderr
	output, err := command.Output()
	if err != nil {
		return "", fmt.Errorf("build %s: %w", name, err)
	}
	return strings.TrimSpace(string(output)), nil
}

func withoutRace(flags string) string {
	return strings.Join(strings.Fields(strings.NewReplacer("-race=true", "", "-race", "").Replace(flags)), " ")
}

// NeutralEnvironment returns this process's environment without the variables that would configure our programs.
func NeutralEnvironment() (environment []string) {
	for _, variable := range os.Environ() {
		name, _, _ := strings.Cut(variable, "=")
		switch {
		case strings.HasPrefix(name, "TEMPORAL_"),
			strings.HasPrefix(name, "OTEL_"),
			strings.HasPrefix(name, "PG"),
			strings.HasSuffix(name, "_URL"):
		default:
			environment = append(environment, variable)
		}
	}
	return environment
}
