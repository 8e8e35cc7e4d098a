package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"os"
	"sync"
	"time"

	"github.com/spf13/cobra"

	"narthex/cmd/internal/service"
	"narthex/internal/childproc"
	"narthex/internal/config"
)

const (
	serviceCommand = "narthex-service"
	roleAPI        = "api"
	roleWorker     = "worker"
	drainPatience  = 30 * time.Second // with what a process has in hand
)

// task is what one of Narthex's processes is told.
type task struct {
	Variables     map[string]string
	Temporal      string // address
	SpareLoopback bool
}

// processes are Narthex's, on a cluster.
type processes struct {
	log      *os.File
	task     task
	progress func(string, ...any)
	fail     context.CancelCauseFunc
}

// run runs two workers and two APIs, calls ready with the APIs' URLs when they answer, and stops them in
// order when ctx ends: APIs, then workers. The first API listens where it was told to, the second on a
// port of its own.
func (p processes) run(ctx context.Context, ready func(apis []string)) error {
	workers, _, err := p.start(ctx, roleWorker, p.task, p.task)
	defer func() { endAll(workers) }()
	if err != nil {
		return err
	}
	first, second := p.task, p.task
	host, _, _ := net.SplitHostPort(first.Variables["HTTP_ADDRESS"])
	second.Variables = maps.Clone(first.Variables)
	second.Variables["HTTP_ADDRESS"], second.Variables["CODEC_ADDRESS"] = net.JoinHostPort(host, "0"), ""
	apis, urls, err := p.start(ctx, roleAPI, first, second)
	defer func() { endAll(apis) }()
	if err != nil {
		return err
	}
	ready(urls)
	<-ctx.Done()
	if cause := context.Cause(ctx); !errors.Is(cause, context.Canceled) {
		return cause
	}
	return nil
}

// start starts a process for each task. One that ends by itself is told of; when the last has, the stack
// fails. With an error it returns those that have been started.
func (p processes) start(ctx context.Context, role string, tasks ...task) (started []*childproc.Process, urls []string, err error) {
	for _, t := range tasks {
		process, address, err := childproc.StartSelf(ctx, p.log, t, serviceCommand, role)
		if err != nil {
			return started, nil, fmt.Errorf("Narthex's %s did not start (its log is narthex.log in the data folder): %w", role, err)
		}
		started, urls = append(started, process), append(urls, "http://"+address)
		go func() {
			<-process.Done()
			if ctx.Err() == nil {
				p.progress("Narthex's %s (process %d) has ended by itself.", role, process.PID())
			}
		}()
	}
	go func() {
		for _, process := range started {
			<-process.Done()
		}
		p.fail(fmt.Errorf("no %s of Narthex is left: its log is narthex.log in the data folder", role))
	}()
	return started, urls, nil
}

func endAll(all []*childproc.Process) {
	var ended sync.WaitGroup
	for _, process := range all {
		ended.Go(func() { process.End(drainPatience) })
	}
	ended.Wait()
}

// narthexServiceCommand runs one of Narthex's processes, for the one that runs a cluster.
func narthexServiceCommand() *cobra.Command {
	return &cobra.Command{
		Use: serviceCommand, Hidden: true, Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, arguments []string) error {
			return childproc.Serve(cmd.InOrStdin(), cmd.OutOrStdout(), func(t task, ready func(string)) error {
				var c configuration
				if err := config.ParseFrom(&c, t.Variables); err != nil {
					return err
				}
				temporal, err := temporalOptions(t.Temporal)
				if err != nil {
					return err
				}
				log := slog.New(slog.NewJSONHandler(os.Stderr, nil)).With("process", os.Getpid())
				parts := c.service(temporal, log, t.SpareLoopback, ready)
				if arguments[0] == roleAPI {
					parts.Worker = nil
				} else {
					parts.API = nil
				}
				return service.Run(cmd.Context(), parts)
			})
		},
	}
}
