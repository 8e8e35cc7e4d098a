// Package children starts child processes that end when their parent ends, as far as the system allows.
package children

import (
	"os"
	"os/exec"
	"runtime"
	"syscall"
	"time"
)

// Process is a child that was started.
type Process struct {
	cmd  *exec.Cmd
	done chan struct{}
	err  error
}

// Start starts cmd in its own process group, so that a terminal's Ctrl-C reaches only the parent, which
// then stops its children in order. On Linux the child gets the signal onParentDeath when the parent dies,
// for whatever reason.
func Start(cmd *exec.Cmd, onParentDeath syscall.Signal) (*Process, error) {
	if cmd.SysProcAttr == nil {
		cmd.SysProcAttr = &syscall.SysProcAttr{}
	}
	cmd.SysProcAttr.Setpgid = true
	setParentDeathSignal(cmd.SysProcAttr, onParentDeath)
	p := &Process{cmd: cmd, done: make(chan struct{})}
	started := make(chan error)
	go func() {
		// Linux sends the signal when the thread that forked ends, so that thread stays for the child's life.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := cmd.Start()
		started <- err
		if err == nil {
			p.err = cmd.Wait()
			close(p.done)
		}
	}()
	if err := <-started; err != nil {
		return nil, err
	}
	return p, nil
}

// PID returns the child's process id.
func (p *Process) PID() int { return p.cmd.Process.Pid }

// Signal sends the child a signal. It is no error if the child has ended.
func (p *Process) Signal(signal os.Signal) { _ = p.cmd.Process.Signal(signal) }

// End asks the child to end, and kills it if it hasn't ended after patience. It returns when the child has
// ended, and reports whether it was killed.
func (p *Process) End(patience time.Duration) (killed bool) {
	p.Signal(syscall.SIGTERM)
	select {
	case <-p.done:
		return false
	case <-time.After(patience):
		p.Signal(syscall.SIGKILL)
		<-p.done
		return true
	}
}

// Done is closed when the child has ended.
func (p *Process) Done() <-chan struct{} { return p.done }

// Err returns the error that the child ended with. It is valid once Done is closed.
func (p *Process) Err() error { return p.err }
