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

// FollowGoRun calls stop when this process was started by `go run` and that has died. `go run` hands
// no signal on but the terminal's, so that killing it would leave its program behind.
func FollowGoRun(ctx context.Context, stop func()) {
	parent := os.Getppid()
	name, err := os.ReadFile(fmt.Sprintf("/proc/%d/comm", parent))
	if err != nil || strings.TrimSpace(string(name)) != "go" {
		return
	}
	go func() {
		// The kernel's own signal is tied to the parent's thread, which `go` may retire: so look instead.
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
