package testenv

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
)

const (
	memory    = "/dev/shm" // Linux's file system in memory
	memoryNow = 2 << 30    // bytes that must be free there: a package's servers need up to 1 GB
)

// serverFolder makes a folder for a server's data: in memory if there is enough of it. A database consists of hundreds of
// files, and making them there takes a fifth of the processor time. What a process that was killed has left there goes.
func serverFolder() (string, error) {
	const prefix = "narthex-test-server-"
	var free syscall.Statfs_t
	if err := syscall.Statfs(memory, &free); err != nil || free.Bavail*uint64(free.Bsize) < memoryNow {
		return os.MkdirTemp("", prefix)
	}
	left, _ := filepath.Glob(filepath.Join(memory, prefix+"*"))
	for _, dir := range left {
		owner, _, _ := strings.Cut(strings.TrimPrefix(filepath.Base(dir), prefix), "-")
		if pid, err := strconv.Atoi(owner); err == nil && errors.Is(syscall.Kill(pid, 0), syscall.ESRCH) {
			_ = os.RemoveAll(dir)
		}
	}
	return os.MkdirTemp(memory, fmt.Sprintf("%s%d-", prefix, os.Getpid()))
}
