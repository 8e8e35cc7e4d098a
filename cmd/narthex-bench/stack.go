package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/log"

	"narthex/internal/children"
	"narthex/internal/config"
	"narthex/internal/dev/devstack"
	"narthex/internal/dev/localpg"
	"narthex/internal/dev/program"
	"narthex/internal/dev/searchattributes"
	"narthex/internal/registry"
)

const (
	startPatience = 3 * time.Minute
	stopPatience  = time.Minute

	taskQueue = "signups"
)

// stack is PostgreSQL and Temporal as the development stack runs them, and `narthex serve`, the production
// program, as a separate process. It keeps everything in one temporary folder.
type stack struct {
	databases       devstack.Databases
	keys            devstack.Keys
	ready           readyDatabases
	temporal        client.Client
	temporalAddress string
	api, operations string // URLs
	serve           *children.Process

	narthexDev, narthex string // executables

	folder string
	log    string // of Narthex's newest process
	stops  []func()
}

// startStack starts everything. The stack must be stopped even if there is an error.
func startStack(ctx context.Context, progress func(string, ...any)) (*stack, error) {
	s := &stack{}
	for name, path := range map[string]*string{"narthex-dev": &s.narthexDev, "narthex": &s.narthex} {
		progress("Building %s.", name) // the first time takes minutes
		var err error
		*path, err = program.Build(name)
		if err != nil {
			return s, err
		}
	}
	ctx, cancel := context.WithTimeout(ctx, startPatience)
	defer cancel()
	folder, err := os.MkdirTemp("", "narthex-bench-")
	if err != nil {
		return s, err
	}
	s.folder = folder
	s.stops = append(s.stops, func() { _ = os.RemoveAll(folder) })
	if err := os.Chmod(folder, 0o711); err != nil { // because PostgreSQL may have to run as another user
		return s, err
	}
	progress("Starting PostgreSQL, Temporal and narthex serve.")
	for _, start := range []func(context.Context) error{s.startPostgres, s.startTemporal, s.startNarthex} {
		if err := start(ctx); err != nil {
			return s, err
		}
	}
	return s, nil
}

// stop stops everything in reverse order, and removes the folder.
func (s *stack) stop() {
	for _, stop := range slices.Backward(s.stops) {
		stop()
	}
}

func (s *stack) startPostgres(ctx context.Context) error {
	server, err := localpg.Start(ctx, localpg.Options{
		Dir:       filepath.Join(s.folder, "postgres"),
		Ephemeral: true, // leaves nothing behind; the settings make it as durable as any other
		Settings:  map[string]string{"fsync": "on", "full_page_writes": "on", "synchronous_commit": "on"},
	})
	if err != nil {
		return err
	}
	s.stops = append(s.stops, func() { _ = server.Stop() })
	variables, err := config.NewKeys()
	if err != nil {
		return err
	}
	s.keys = devstack.Keys(variables)
	s.keys["SERVICE_PASSWORD"] = rand.Text()
	s.databases, err = devstack.PrepareOwn(ctx, server.AdminURL(), s.keys)
	if err != nil {
		return err
	}
	if err := registry.Migrate(ctx, s.databases.RegistryURL); err != nil {
		return err
	}
	s.ready.registry, err = pgxpool.New(ctx, s.databases.RegistryURL)
	if err == nil {
		s.stops = append(s.stops, s.ready.registry.Close)
	}
	return err
}

// startTemporal runs Temporal as a child process: the server is too large to link into this program.
func (s *stack) startTemporal(ctx context.Context) error {
	cmd := exec.Command(s.narthexDev, "temporal", "--data", filepath.Join(s.folder, "temporal"), "--temporal", "127.0.0.1:0", "--ui", "")
	out, in, err := os.Pipe()
	if err != nil {
		return err
	}
	defer out.Close()
	cmd.Stdout, cmd.Env = in, program.NeutralEnvironment()
	process, err := children.Start(cmd, syscall.SIGKILL)
	in.Close()
	if err != nil {
		return fmt.Errorf("start Temporal: %w", err)
	}
	s.stops = append(s.stops, func() { process.End(stopPatience) })
	defer context.AfterFunc(ctx, func() { process.Signal(syscall.SIGKILL) })()
	var where struct{ Temporal string }
	if err := json.NewDecoder(out).Decode(&where); err != nil {
		return fmt.Errorf("Temporal did not say where it listens: %w", err)
	}
	s.temporalAddress = where.Temporal
	s.temporal, err = client.DialContext(
		ctx,
		client.Options{HostPort: where.Temporal, Logger: log.NewStructuredLogger(slog.New(slog.DiscardHandler))},
	)
	if err != nil {
		return fmt.Errorf("connect to Temporal: %w", err)
	}
	s.stops = append(s.stops, s.temporal.Close)
	return searchattributes.Ensure(ctx, s.temporal, client.DefaultNamespace)
}

// startNarthex runs `narthex serve`. Throttling is on, but it trusts this program to name its clients, and
// each request comes from a different client.
func (s *stack) startNarthex(ctx context.Context) error {
	serve, err := s.startProgram(ctx, s.narthex, "serve", nil)
	s.serve, s.api, s.operations = serve.process, "http://"+serve.HTTP, "http://"+serve.Operations
	return err
}

// running is a process of ours that is ready.
type running struct {
	process          *children.Process
	HTTP, Operations string // addresses
}

// startProgram runs one of Narthex's programs, and returns once it is ready.
func (s *stack) startProgram(ctx context.Context, path, command string, more map[string]string) (running, error) {
	s.log = filepath.Join(s.folder, fmt.Sprintf("narthex-%d.log", len(s.stops)))
	logFile, err := os.Create(s.log)
	if err != nil {
		return running{}, err
	}
	defer logFile.Close()
	cmd := exec.Command(path, command)
	cmd.Stderr, cmd.Env = logFile, program.NeutralEnvironment()
	variables := s.variables()
	maps.Copy(variables, more)
	for name, value := range variables {
		cmd.Env = append(cmd.Env, name+"="+value)
	}
	process, err := children.Start(cmd, syscall.SIGKILL)
	if err != nil {
		return running{}, fmt.Errorf("start narthex %s: %w", command, err)
	}
	s.stops = append(s.stops, func() { process.End(stopPatience) })
	return awaitReady(ctx, process, s.log)
}

func (s *stack) variables() map[string]string {
	all := maps.Clone(map[string]string(s.keys))
	maps.Copy(all, map[string]string{
		"REGISTRY_URL": s.databases.RegistryURL, "TENANT_SERVER_URL": s.databases.TenantServerURL,
		"TEMPORAL_ADDRESS": s.temporalAddress, "TEMPORAL_NAMESPACE": client.DefaultNamespace, "TASK_QUEUE": taskQueue,
		"HTTP_ADDRESS": "127.0.0.1:0", "OPERATIONS_ADDRESS": "127.0.0.1:0", "TRUSTED_PROXIES": "127.0.0.1/32",
		"DATABASE_POOL_SIZE": strconv.Itoa(readySize),
		"SIGNUP_WAIT":        "60s", // slow signups are measured instead of answered with 202
	})
	return all
}

// awaitReady waits until a program's log says that it is ready, and where it listens.
func awaitReady(ctx context.Context, process *children.Process, logPath string) (running, error) {
	r := running{process: process}
	for {
		content, err := os.ReadFile(logPath)
		if err != nil {
			return r, err
		}
		for line := range bytes.Lines(content) {
			var said struct{ Msg string }
			if json.Unmarshal(line, &said) == nil && said.Msg == "ready" {
				return r, json.Unmarshal(line, &r)
			}
		}
		select {
		case <-process.Done():
			return r, fmt.Errorf("narthex did not start: %s", bytes.TrimSpace(content))
		case <-ctx.Done():
			return r, errors.New("narthex was not ready in time")
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// logTail returns the last warnings of Narthex's newest process, to report with an error.
func (s *stack) logTail() string {
	content, _ := os.ReadFile(s.log)
	var last []string
	for line := range strings.Lines(string(content)) {
		if !strings.Contains(line, `"level":"INFO"`) {
			last = append(last, line)
		}
	}
	return strings.Join(last[max(0, len(last)-5):], "")
}
