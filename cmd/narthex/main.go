// Command narthex is the production program: the API, the worker, and the operators' commands.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"time"
)

func main() {
	time.Local = time.UTC // output and logs are the same wherever the process runs
	if err := execute(); err != nil {
		fmt.Fprintln(os.Stderr, "narthex:", err)
		os.Exit(exitStatus(err))
	}
}

func execute() error {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	return newCommand().ExecuteContext(ctx)
}
