// Package program builds this module's own programs, for tests and benchmarks that run them as processes.
package program

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/gofrs/flock"
)

// Build builds a program of this module, such as narthex or narthex-dev, without race instrumentation, and
// returns the executable's path. `go tool -n` keeps it in Go's build cache, so it is linked only once and
// leaves nothing behind.
func Build(name string) (path string, err error) { return BuildWith(name, "") }

// BuildWith builds a program with some files replaced: overlay is a file for `go build -overlay`, or "".
func BuildWith(name, overlay string) (path string, err error) {
	// One process builds and the others wait. Users do not wait for each other.
	lock := flock.New(filepath.Join(os.TempDir(), fmt.Sprintf("narthex-test-build-%d.lock", os.Getuid())))
	if err := lock.Lock(); err != nil {
		return "", fmt.Errorf("lock the build: %w", err)
	}
	defer func() { _ = lock.Unlock() }()
	build := exec.Command("go", "tool", "-n", "narthex/cmd/"+name)
	flags := withoutRace(os.Getenv("GOFLAGS"))
	if overlay != "" {
		flags += " -overlay=" + overlay
	}
	build.Env = append(os.Environ(), "GOFLAGS="+flags)
	build.Stderr = os.Stderr
	output, err := build.Output()
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
