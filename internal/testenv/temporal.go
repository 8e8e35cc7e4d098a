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

	"narthex/internal/childproc"
)

var temporal = &shared{start: startTemporal}

// TemporalAddress returns the host:port of the process's Temporal server, namespace "default".
func TemporalAddress(t testing.TB) string {
	t.Helper()
	return temporal.get(t)
}

func startTemporal(dir string) (address string, stop func() error, err error) {
	path, err := Program("narthex-dev")
	if err != nil {
		return "", nil, err
	}
	cmd := exec.Command(path, "temporal", "--data", dir, "--temporal", "127.0.0.1:0", "--ui", "")
	cmd.Stderr = os.Stderr
	out, in, err := os.Pipe()
	if err != nil {
		return "", nil, err
	}
	defer out.Close()
	cmd.Stdout = in
	process, err := childproc.Start(cmd, syscall.SIGKILL)
	in.Close()
	if err != nil {
		return "", nil, fmt.Errorf("start Temporal: %w", err)
	}
	stop = func() error {
		process.Signal(syscall.SIGTERM)
		select {
		case <-process.Done():
			return nil
		case <-time.After(20 * time.Second):
			process.Signal(syscall.SIGKILL)
			<-process.Done()
			return errors.New("Temporal did not stop within 20 seconds and was killed")
		}
	}
	var where struct{ Temporal string }
	if err := json.NewDecoder(out).Decode(&where); err != nil {
		_ = stop()
		return "", nil, fmt.Errorf("Temporal did not say where it listens: %w", err)
	}
	return where.Temporal, stop, nil
}
