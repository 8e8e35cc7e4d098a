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

// Build builds a program of this module, like narthex or narthex-dev, without race instrumentation, and
// returns the executable's path. `go tool -n` keeps it in Go's build cache: it is linked once, and
// nothing is left behind.
func Build(name string) (path string, err error) { return BuildWith(name, "") }

// BuildWith builds a program as it would be with other files: overlay is a file as `go build -overlay` takes it, or "".
func BuildWith(name, overlay string) (path string, err error) {
	// One process builds, the others wait; a user's builds do not wait for another's.
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

// NeutralEnvironment is this process's environment, without what would configure a program of ours.
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
