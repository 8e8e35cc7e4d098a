package testenv

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"syscall"
	"testing"
	"time"

	"narthex/internal/children"
	"narthex/internal/dev/program"
)

const temporalPatience = time.Minute // with its stop

var temporal = &shared{start: startTemporal}

// Cluster reports whether tests run against a cluster: Temporal's services as separate processes, on the
// test process's PostgreSQL server, and more than one API and worker if a test starts them.
func Cluster() bool { return os.Getenv("NARTHEX_TEST_CLUSTER") == "1" }

// TemporalAddress returns the host:port of the process's Temporal server, namespace "default".
func TemporalAddress(t testing.TB) string {
	t.Helper()
	if Cluster() {
		PostgresURL(t) // must start before Temporal, and stop after it
	}
	return temporal.get(t)
}

func startTemporal(dir string) (address string, stop func() error, err error) {
	path, err := program.Build("narthex-dev")
	if err != nil {
		return "", nil, err
	}
	cmd := exec.Command(path, "temporal", "--data", dir, "--temporal", "127.0.0.1:0", "--ui", "")
	if Cluster() {
		cmd.Args = append(cmd.Args, "--cluster")
		cmd.Env = append(os.Environ(), "DATABASE_URL="+postgres.address)
	}
	cmd.Stderr = os.Stderr
	out, in, err := os.Pipe()
	if err != nil {
		return "", nil, err
	}
	defer out.Close()
	cmd.Stdout = in
	process, err := children.Start(cmd, syscall.SIGKILL)
	in.Close()
	if err != nil {
		return "", nil, fmt.Errorf("start Temporal: %w", err)
	}
	stop = func() error {
		if process.End(temporalPatience) {
			return errors.New("Temporal did not stop in time and was killed")
		}
		return nil
	}
	var where struct{ Temporal string }
	if err := json.NewDecoder(out).Decode(&where); err != nil {
		_ = stop()
		return "", nil, fmt.Errorf("Temporal did not say where it listens: %w", err)
	}
	return where.Temporal, stop, nil
}
