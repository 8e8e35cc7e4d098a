package children

import (
	"context"
	"fmt"
	"os"
	"strings"
	"syscall"
	"time"
)

func setParentDeathSignal(attributes *syscall.SysProcAttr, signal syscall.Signal) {
	attributes.Pdeathsig = signal
}

// FollowGoRun calls stop when the `go run` that started this process, if any, has died. `go run` forwards
// no signals but the terminal's, so killing it would leave its program running.
func FollowGoRun(ctx context.Context, stop func()) {
	parent := os.Getppid()
	name, err := os.ReadFile(fmt.Sprintf("/proc/%d/comm", parent))
	if err != nil || strings.TrimSpace(string(name)) != "go" {
		return
	}
	go func() {
		// The kernel's own signal is tied to the parent's thread, which `go` may retire, so poll instead.
		for os.Getppid() == parent {
			select {
			case <-ctx.Done():
				return
			case <-time.After(500 * time.Millisecond):
			}
		}
		stop()
	}()
}
