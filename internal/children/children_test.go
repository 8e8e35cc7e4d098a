package children_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"narthex/internal/children"
)

// The test program also plays the other processes: this variable says which one.
const roleVariable = "NARTHEX_CHILDPROC_ROLE"

func TestMain(m *testing.M) {
	switch os.Getenv(roleVariable) {
	case "parent": // starts a child, prints its id, and waits to be killed
		p, err := children.Start(exec.Command("sleep", "60"), syscall.SIGTERM)
		if err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
		fmt.Println(p.PID())
		time.Sleep(time.Minute)
	case "go": // plays `go run`: starts the follower, and waits to be killed
		cmd := exec.Command(os.Args[0])
		cmd.Env = append(os.Environ(), roleVariable+"=follower")
		cmd.Stdout = os.Stdout
		_ = cmd.Run()
	case "self": // does what it is told
		err := children.Serve(os.Stdin, os.Stdout, func(told string, ready func(string)) error {
			switch told {
			case "fail":
				return errors.New("no luck")
			case "die":
				os.Exit(1)
			case "hang":
				time.Sleep(time.Minute)
			}
			ready("at " + told)
			time.Sleep(time.Minute)
			return nil
		})
		fmt.Fprintln(os.Stderr, err)
	case "follower":
		ctx, stop := context.WithCancel(context.Background())
		children.FollowGoRun(ctx, stop)
		fmt.Println(os.Getpid())
		<-ctx.Done()
		fmt.Println("ended")
	default:
		os.Exit(m.Run())
	}
}

// start starts program, which is this test program, in a role, and returns it with its output's lines.
func start(t *testing.T, program, role string) (*exec.Cmd, *bufio.Scanner) {
	t.Helper()
	cmd := exec.Command(program)
	cmd.Env = append(os.Environ(), roleVariable+"="+role)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	return cmd, bufio.NewScanner(out)
}

func TestChildDiesWithItsParent(t *testing.T) {
	t.Parallel()
	if runtime.GOOS != "linux" {
		t.Skip("only Linux tells a child that its parent has died")
	}
	parent, lines := start(t, os.Args[0], "parent")
	if !lines.Scan() {
		t.Fatal("the parent printed nothing")
	}
	child, err := strconv.Atoi(lines.Text())
	if err != nil {
		t.Fatal(lines.Text())
	}
	if err := parent.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = parent.Wait()
	for deadline := time.Now().Add(5 * time.Second); alive(child); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("process %d has outlived its parent", child)
		}
	}
}

// alive reports whether a process runs. A zombie doesn't.
func alive(pid int) bool {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	return err == nil && !strings.Contains(string(stat), ") Z ")
}

func TestFollowGoRun(t *testing.T) {
	t.Parallel()
	goCommand := filepath.Join(t.TempDir(), "go") // a program is named after the file that was started
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(self, goCommand); err != nil {
		t.Fatal(err)
	}
	parent, lines := start(t, goCommand, "go")
	if !lines.Scan() {
		t.Fatal("the follower printed nothing")
	}
	if err := parent.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	if !lines.Scan() || lines.Text() != "ended" {
		t.Fatalf("the follower printed %q", lines.Text())
	}
}

func TestStart(t *testing.T) {
	t.Parallel()
	p, err := children.Start(exec.Command("sleep", "60"), syscall.SIGTERM)
	if err != nil {
		t.Fatal(err)
	}
	select {
	case <-p.Done():
		t.Fatal("the child ended at once")
	default:
	}
	if group, err := syscall.Getpgid(p.PID()); err != nil || group != p.PID() {
		t.Errorf("the child's process group is %d: want its own", group)
	}
	p.Signal(syscall.SIGTERM)
	<-p.Done()
	if _, ok := errors.AsType[*exec.ExitError](p.Err()); !ok {
		t.Errorf("the child ended with %v: want an exit error", p.Err())
	}
	if _, err := children.Start(exec.Command(filepath.Join(t.TempDir(), "missing")), syscall.SIGTERM); err == nil {
		t.Error("a missing program was started")
	}
}

func TestStartSelf(t *testing.T) {
	t.Setenv(roleVariable, "self")
	log, err := os.Create(filepath.Join(t.TempDir(), "log"))
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	p, address, err := children.StartSelf(t.Context(), log, "work")
	if err != nil || address != "at work" {
		t.Fatalf("the child says it is %q, %v; want at work", address, err)
	}
	if p.End(time.Minute) || alive(p.PID()) {
		t.Error("the child did not end when it was asked to")
	}
	for told, want := range map[string]string{
		"fail": "no luck",
		"die":  "it ended before it was ready: EOF",
		"hang": context.DeadlineExceeded.Error(),
	} {
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		if told == "hang" {
			ctx, cancel = context.WithTimeout(t.Context(), 100*time.Millisecond)
		}
		if _, _, err := children.StartSelf(ctx, log, told); err == nil || err.Error() != want {
			t.Errorf("told to %s, the error is %v: want %s", told, err, want)
		}
		cancel()
	}
}
