// Command narthex is the production program: the API, the worker, and what operators need.
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
	time.Local = time.UTC // what is printed and logged is the same wherever the process runs
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
