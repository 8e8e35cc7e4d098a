package childproc

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

const gorunPoll = 500 * time.Millisecond

// FollowGoRun returns a context that ends with ctx and, where `go run` (or `go tool`) has started this
// process, also when that command dies: `kill -9` of it would leave this process behind. It asks for
// the parent twice a second, because the kernel's own notice hangs on a thread of the go command that
// may end before it.
func FollowGoRun(ctx context.Context) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancel(ctx)
	parent := os.Getppid()
	if processName(parent) != "go" {
		return ctx, cancel
	}
	go func() {
		defer cancel()
		poll := time.NewTicker(gorunPoll)
		defer poll.Stop()
		for os.Getppid() == parent {
			select {
			case <-ctx.Done():
				return
			case <-poll.C:
			}
		}
	}()
	return ctx, cancel
}

// processName is the name of a process's program, empty where it cannot be learned.
func processName(pid int) string {
	name, err := os.ReadFile(fmt.Sprintf("/proc/%d/comm", pid))
	if err != nil {
		name, _ = exec.Command("ps", "-o", "comm=", "-p", fmt.Sprint(pid)).Output()
	}
	return filepath.Base(strings.TrimSpace(string(name)))
}
