package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/spf13/cobra"

	"narthex/cmd/internal/process"
	"narthex/internal/children"
	"narthex/internal/config"
	"narthex/internal/telemetry"
)

const (
	processCommand = "narthex-process"
	roleAPI        = "api"
	roleWorker     = "worker"
	drainPatience  = 30 * time.Second // with a process's current work
)

// task is what one of Narthex's processes is told to do.
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

// run runs two workers and two APIs. When they answer, it calls ready with the APIs' URLs and the URL of the
// first API's operations. When ctx ends, it stops the APIs, then the workers. The first API listens on the
// configured address, all others on free ports.
func (p processes) run(ctx context.Context, ready func(apis []string, operations string)) error {
	first, other := p.task, p.task
	other.Variables = maps.Clone(first.Variables)
	for _, name := range []string{"HTTP_ADDRESS", "OPERATIONS_ADDRESS"} {
		host, _, _ := net.SplitHostPort(first.Variables[name])
		other.Variables[name] = net.JoinHostPort(host, "0")
	}
	other.Variables["CODEC_ADDRESS"] = ""
	ctx, stopping := context.WithCancel(ctx) // after that, processes don't end by themselves
	workers, _, err := p.start(ctx, roleWorker, other, other)
	defer func() { stopping(); endAll(workers) }()
	if err != nil {
		return err
	}
	apis, listening, err := p.start(ctx, roleAPI, first, other)
	defer func() { stopping(); endAll(apis) }()
	if err != nil {
		return err
	}
	var urls []string
	for _, a := range listening {
		urls = append(urls, "http://"+a.http)
	}
	ready(urls, "http://"+listening[0].operations)
	<-ctx.Done()
	if cause := context.Cause(ctx); !errors.Is(cause, context.Canceled) {
		return cause
	}
	return nil
}

// addresses are where one of the processes listens.
type addresses struct{ http, operations string }

// start starts a process for each task. It reports a process that ends by itself; when the last one has ended,
// the stack fails. On an error it also returns the processes that it has started.
func (p processes) start(ctx context.Context, role string, tasks ...task) (started []*children.Process, listening []addresses, err error) {
	for _, t := range tasks {
		process, address, err := children.StartSelf(ctx, p.log, t, processCommand, role)
		if err != nil {
			return started, nil, fmt.Errorf("Narthex's %s did not start (its log is narthex.log in the data folder): %w", role, err)
		}
		http, operations, _ := strings.Cut(address, " ")
		started, listening = append(started, process), append(listening, addresses{http, operations})
		go func() {
			<-process.Done()
			if ctx.Err() == nil {
				p.progress("Narthex's %s (process %d) has stopped unexpectedly.", role, process.PID())
			}
		}()
	}
	go func() {
		for _, process := range started {
			<-process.Done()
		}
		if ctx.Err() != nil {
			return
		}
		p.fail(fmt.Errorf("no Narthex %s is left: its log is narthex.log in the data folder", role))
	}()
	return started, listening, nil
}

func endAll(all []*children.Process) {
	var ended sync.WaitGroup
	for _, process := range all {
		ended.Go(func() { process.End(drainPatience) })
	}
	ended.Wait()
}

// narthexServiceCommand runs one of Narthex's processes, on behalf of the command that runs a cluster.
func narthexServiceCommand() *cobra.Command {
	return &cobra.Command{
		Use: processCommand, Hidden: true, Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, arguments []string) error {
			return children.Serve(cmd.InOrStdin(), cmd.OutOrStdout(), func(t task, ready func(string)) error {
				c := allParts()
				if err := config.ParseFrom(&c, t.Variables); err != nil {
					return err
				}
				temporal, err := temporalOptions(t.Temporal)
				if err != nil {
					return err
				}
				log := telemetry.NewLogger(os.Stderr, config.Log{LogFormat: config.LogJSON}).With("process", os.Getpid())
				parts := processConfig(c, temporal, log, t.SpareLoopback)
				parts.Ready = func(http, operations string) { ready(http + " " + operations) }
				if arguments[0] == roleAPI {
					parts.Worker = nil
				} else {
					parts.API = nil
				}
				return process.Run(cmd.Context(), parts)
			})
		},
	}
}
