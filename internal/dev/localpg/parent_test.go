package localpg_test

import (
	"bufio"
	"os"
	"os/exec"
	"testing"
)

// startInParent starts a server in another process, and returns that process and the server's URL.
func startInParent(t *testing.T, dir string) (*os.Process, string) {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), parentVariable+"="+dir)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill() })
	line := bufio.NewScanner(out)
	if !line.Scan() {
		t.Fatal("the parent printed nothing")
	}
	return cmd.Process, line.Text()
}
