package testenv

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
)

const (
	memory = "/dev/shm" // Linux's file system in memory
	usual  = 2 << 30    // bytes that a server of a test, and what runs beside it, may need

	folderPrefix = "narthex-test-"
)

// Folder makes an empty folder that other users can reach: tests may run as root, and PostgreSQL then runs
// as another user. It is removed when the test ends.
func Folder(t testing.TB) string {
	t.Helper()
	return FolderFor(t, usual)
}

// FolderFor does as Folder does, for a server that may need so many bytes.
func FolderFor(t testing.TB, size uint64) string {
	t.Helper()
	dir, err := makeFolder(size)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return dir
}

// makeFolder makes a folder in memory, if there is room for so many bytes. A database consists of hundreds of files, and
// making them there takes a fifth of the processor time.
func makeFolder(size uint64) (string, error) {
	parent := os.TempDir()
	var free syscall.Statfs_t
	if err := syscall.Statfs(memory, &free); err == nil && free.Bavail*uint64(free.Bsize) >= size {
		removeLeftovers()
		parent = memory
	}
	dir, err := os.MkdirTemp(parent, fmt.Sprintf("%s%d-", folderPrefix, os.Getpid()))
	if err == nil {
		err = os.Chmod(dir, 0o711)
	}
	return dir, err
}

// removeLeftovers removes what test processes that were killed have left in memory.
func removeLeftovers() {
	left, _ := filepath.Glob(filepath.Join(memory, folderPrefix+"*"))
	for _, dir := range left {
		owner, _, _ := strings.Cut(strings.TrimPrefix(filepath.Base(dir), folderPrefix), "-")
		pid, err := strconv.Atoi(owner)
		if err == nil && errors.Is(syscall.Kill(pid, 0), syscall.ESRCH) {
			_ = os.RemoveAll(dir)
		}
	}
}
