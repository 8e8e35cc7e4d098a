package main

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"strconv"
	"strings"
)

// residentMemory returns how much memory a process uses, in MiB.
func residentMemory(pid int) (float64, error) {
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil { // not Linux
		status, err = exec.Command("ps", "-o", "rss=", "-p", strconv.Itoa(pid)).Output()
		status = append([]byte("VmRSS:"), status...)
	}
	if err != nil {
		return 0, fmt.Errorf("the memory of process %d cannot be read: %w", pid, err)
	}
	_, rest, _ := strings.Cut(string(status), "VmRSS:")
	var kibibytes float64
	if _, err := fmt.Sscan(rest, &kibibytes); err != nil {
		return 0, fmt.Errorf("the memory of process %d is not reported: %w", pid, err)
	}
	return kibibytes / 1024, nil
}

const profileSeconds = 20

// startProfile starts to profile `narthex serve`, if that is wanted, and returns a function that waits for the profile.
func (b *bench) startProfile(ctx context.Context) (wait func() error, err error) {
	if b.profile == "" {
		return func() error { return nil }, nil
	}
	file, err := os.Create(b.profile)
	if err != nil {
		return nil, err
	}
	done := make(chan error, 1)
	go func() {
		defer file.Close()
		done <- download(ctx, fmt.Sprintf("%s/debug/pprof/profile?seconds=%d", b.stack.operations, profileSeconds), file)
	}()
	return func() error { return <-done }, nil
}

func download(ctx context.Context, url string, to io.Writer) error {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return fmt.Errorf("no profile: %s", response.Status)
	}
	_, err = io.Copy(to, response.Body)
	return err
}
