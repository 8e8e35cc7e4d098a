package children

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"syscall"
)

// word is the only message of a StartSelf child: that it is ready, or why it isn't.
type word struct{ Address, Error string }

// StartSelf starts this program again with other arguments, as a child that is killed when this process
// dies. It writes told to the child's stdin as JSON, so that no process list shows its secrets, and
// returns when the child says that it is ready, with the address that the child names. The child's log
// goes to log. ctx bounds only the start.
func StartSelf(ctx context.Context, log *os.File, told any, arguments ...string) (p *Process, address string, err error) {
	self, err := os.Executable()
	if err != nil {
		return nil, "", fmt.Errorf("this program's own file cannot be found: %w", err)
	}
	cmd := exec.Command(self, arguments...)
	stdin, err := cmd.StdinPipe()
	if err != nil {
		return nil, "", err
	}
	defer stdin.Close()
	out, in, err := os.Pipe()
	if err != nil {
		return nil, "", err
	}
	defer out.Close()
	cmd.Stdout, cmd.Stderr = in, log
	p, err = Start(cmd, syscall.SIGKILL)
	in.Close()
	if err != nil {
		return nil, "", err
	}
	// Killing the child ends the conversation.
	defer context.AfterFunc(ctx, func() { p.Signal(syscall.SIGKILL) })()
	address, err = converse(stdin, out, told)
	if err == nil && ctx.Err() == nil {
		return p, address, nil
	}
	p.Signal(syscall.SIGKILL)
	<-p.Done()
	if ctx.Err() != nil {
		err = ctx.Err()
	}
	return nil, "", err
}

// converse tells a child what to do, and waits until the child says that it is ready.
func converse(stdin io.Writer, stdout io.Reader, told any) (address string, err error) {
	if err := json.NewEncoder(stdin).Encode(told); err != nil {
		return "", fmt.Errorf("it ended before it received its instructions: %w", err)
	}
	var answer word
	if err := json.NewDecoder(stdout).Decode(&answer); err != nil {
		return "", fmt.Errorf("it ended before it was ready: %w", err)
	}
	if answer.Error != "" {
		return "", errors.New(answer.Error)
	}
	return answer.Address, nil
}

// Serve is the child's side of StartSelf. It calls run with what was told (of type T) and a function that
// run calls once, with an address, when it is ready. If run fails before that, Serve reports its error.
func Serve[T any](in io.Reader, out io.Writer, run func(told T, ready func(address string)) error) error {
	var told T
	if err := json.NewDecoder(in).Decode(&told); err != nil {
		return errors.New("this command is internal: only narthex-dev runs it")
	}
	said := false
	say := func(w word) {
		if !said {
			said = true
			_ = json.NewEncoder(out).Encode(w) // fails if the parent has gone, and this process is about to end too
		}
	}
	err := run(told, func(address string) { say(word{Address: address}) })
	if err != nil {
		say(word{Error: err.Error()})
	}
	return err
}
