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
	usual  = 2 << 30    // bytes that a test's server, and what runs next to it, may need

	folderPrefix = "narthex-test-"
)

// Folder creates an empty folder that other users can reach, because PostgreSQL runs as another user if the
// tests run as root. The folder is removed when the test ends.
func Folder(t testing.TB) string {
	t.Helper()
	return FolderFor(t, usual)
}

// FolderFor is like Folder, for a server that may need size bytes.
func FolderFor(t testing.TB, size uint64) string {
	t.Helper()
	dir, err := makeFolder(size)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return dir
}

// makeFolder creates a folder in memory, if there is room for size bytes. A database consists of hundreds of files, and
// creating them in memory takes a fifth of the processor time.
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

// removeLeftovers removes what killed test processes have left in memory.
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
