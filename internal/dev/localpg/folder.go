package localpg

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"narthex/internal/children"
)

// folder is where a server keeps everything: its data, its password, its log, downloaded programs.
type folder struct {
	path  string
	owner *account // who the server runs as; nil for this process's own user
	moved bool     // path is not the folder that was asked for
}

const predecessorPatience = 10 * time.Second

func (f folder) data() string     { return filepath.Join(f.path, "data") }
func (f folder) password() string { return filepath.Join(f.path, "password") }
func (f folder) log() string      { return filepath.Join(f.path, "postgres.log") }

// openFolder creates the folder and makes sure that the server can use it.
func openFolder(options Options) (folder, error) {
	path, err := filepath.Abs(options.Dir)
	if err != nil {
		return folder{}, fmt.Errorf("PostgreSQL's folder %s has no absolute path: name another", options.Dir)
	}
	if err := os.MkdirAll(path, 0o700); err != nil {
		return folder{}, fmt.Errorf("PostgreSQL's folder %s cannot be created: choose another", path)
	}
	path, err = filepath.EvalSymlinks(path)
	if err != nil {
		return folder{}, fmt.Errorf("PostgreSQL's folder %s cannot be used: choose another", options.Dir)
	}
	f := folder{path: path}
	if os.Geteuid() == 0 {
		return f.giveAway(options.Log)
	}
	if err := syscall.Access(path, 7); err != nil {
		return folder{}, fmt.Errorf("PostgreSQL's folder %s belongs to another user: choose another, or start as that user", path)
	}
	return f, nil
}

// major returns the major version of the data, or 0 if there is none yet.
func (f folder) major() (int, error) {
	version, err := os.ReadFile(filepath.Join(f.data(), "PG_VERSION"))
	if errors.Is(err, os.ErrNotExist) {
		return 0, nil
	}
	major, parseErr := strconv.Atoi(strings.TrimSpace(string(version)))
	if err != nil || parseErr != nil {
		return 0, fmt.Errorf("the data in %s is damaged: move it away to start over", f.data())
	}
	return major, nil
}

// initialize creates the data if there is none, and returns the superuser's password. It creates the data
// next to its final place and moves it there when it is complete, so the next start recovers from an
// interrupted one.
func (f folder) initialize(ctx context.Context, programs Programs, ephemeral bool) (string, error) {
	password, err := f.readPassword()
	if err != nil {
		return "", err
	}
	if _, err := os.Stat(f.data()); err == nil {
		return password, nil
	}
	draft := f.data() + ".new"
	arguments := []string{
		"--pgdata=" + draft, "--username=" + superuser, "--pwfile=" + f.password(), "--auth=scram-sha-256", "--encoding=UTF8",
	}
	if ephemeral {
		arguments = append(arguments, "--no-sync")
	}
	// C.UTF-8 sorts the same on every system and still knows upper and lower case of all letters. A C library
	// without it gets C, which knows them only for a to z.
	for _, locale := range []string{"--locale=C.UTF-8", "--no-locale"} {
		if err = os.RemoveAll(draft); err != nil {
			break
		}
		if err = f.run(ctx, programs.path("initdb"), append(arguments, locale)...); err == nil || !strings.Contains(err.Error(), "locale") {
			break
		}
	}
	if err == nil {
		err = os.Rename(draft, f.data())
	}
	if err != nil {
		return "", fmt.Errorf("PostgreSQL's data cannot be created in %s: %w", f.path, err)
	}
	return password, nil
}

// readPassword returns the superuser's password, and makes it the first time.
func (f folder) readPassword() (string, error) {
	password, err := os.ReadFile(f.password())
	if err == nil && len(password) > 0 {
		return string(password), nil
	}
	if _, missing := os.Stat(f.data()); missing == nil {
		return "", fmt.Errorf("the password of the data in %s cannot be read: move the folder away to start over", f.path)
	}
	made := rand.Text() + rand.Text() // 260 bits
	if err := os.WriteFile(f.password(), []byte(made), 0o600); err != nil {
		return "", fmt.Errorf("PostgreSQL's folder %s cannot be written to: choose another", f.path)
	}
	return made, f.chown(f.password())
}

// run runs a program to its end. Its error is the last line the program wrote.
func (f folder) run(ctx context.Context, program string, arguments ...string) error {
	var output strings.Builder
	cmd := exec.Command(program, arguments...)
	cmd.Stdout, cmd.Stderr = &output, &output
	f.prepare(cmd)
	p, err := children.Start(cmd, syscall.SIGTERM)
	if err != nil {
		return err
	}
	select {
	case <-ctx.Done():
		p.Signal(syscall.SIGTERM)
		<-p.Done()
		return context.Cause(ctx)
	case <-p.Done():
	}
	if p.Err() != nil {
		return errors.New(complaint(output.String()))
	}
	return nil
}

// prepare makes a PostgreSQL program run in the folder, as the folder's owner, with messages in English
// and without the PG* variables of this process.
func (f folder) prepare(cmd *exec.Cmd) {
	cmd.Dir = f.path
	for _, variable := range os.Environ() {
		if !strings.HasPrefix(variable, "PG") {
			cmd.Env = append(cmd.Env, variable)
		}
	}
	cmd.Env = append(cmd.Env, "LC_ALL=C")
	if f.owner != nil {
		cmd.SysProcAttr = f.owner.attributes()
	}
}

// awaitPredecessor waits until the server of a killed run, which the kernel has told to stop, has released
// the data. The files that it leaves behind do no harm.
func (f folder) awaitPredecessor() {
	for deadline := time.Now().Add(predecessorPatience); time.Now().Before(deadline); time.Sleep(pollInterval) {
		lock, err := os.ReadFile(filepath.Join(f.data(), "postmaster.pid"))
		if err != nil {
			return
		}
		pid, _, _ := strings.Cut(string(lock), "\n")
		works, err := os.Readlink(filepath.Join("/proc", pid, "cwd"))
		if err != nil || works != f.data() {
			return // the process is gone, or its number is another's by now
		}
	}
}

// lastWords returns the end of the server's log, after a position.
func (f folder) lastWords(from int64) string {
	log, err := os.ReadFile(f.log())
	if err != nil || int64(len(log)) <= from {
		return "its log is empty"
	}
	return complaint(string(log[from:])) + " (its log is " + f.log() + ")"
}

// complaint returns the line of a program's output that best says what is wrong: its last error, or else
// its last line.
func complaint(output string) string {
	lines := strings.Split(strings.TrimSpace(output), "\n")
	for _, line := range slices.Backward(lines) {
		for _, mark := range []string{"FATAL:", "PANIC:", "error:"} {
			if _, text, found := strings.Cut(line, mark); found {
				return strings.TrimSpace(text)
			}
		}
	}
	return lines[len(lines)-1]
}

// leave ends the use of the folder. It deletes an ephemeral folder that is not where it was asked for,
// because nobody else will.
func (f folder) leave(ephemeral bool) error {
	if !ephemeral || !f.moved {
		return nil
	}
	if err := os.RemoveAll(f.path); err != nil {
		return fmt.Errorf("delete PostgreSQL's folder: %w", err)
	}
	return nil
}
