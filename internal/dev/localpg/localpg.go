// Package localpg runs a PostgreSQL server of our own, for development and tests. It finds the
// programs or downloads them, creates the data folder, starts the server as a child process, and stops
// it. It must not touch servers that it has not started, and is not for production.
package localpg

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/url"
	"os"
	"os/exec"
	"strconv"
	"sync"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"

	"narthex/internal/children"
)

// Options say where the server keeps its data and listens. Only Dir has no default.
type Options struct {
	Dir       string            // created if missing
	Host      string            // 127.0.0.1 by default
	Port      int               // 0 picks a free one
	Settings  map[string]string // in addition to this package's
	Ephemeral bool              // trades the data's safety in a crash for speed; Stop may delete the data

	Log        func(format string, args ...any) // gets a line if something is slow or unusual
	Programs   []string                         // patterns of folders that hold PostgreSQL's programs; the usual ones by default
	Repository string                           // Maven repository to download missing programs from; the central one by default
}

// Server is a running server.
type Server struct {
	Port int

	host, password string
	process        *children.Process
	folder         folder
	ephemeral      bool
	stop           func() error
}

const (
	superuser    = "postgres"
	startLimit   = time.Minute
	pollInterval = 10 * time.Millisecond
	stopPatience = 20 * time.Second
	quitPatience = 5 * time.Second
)

// Start starts the server and returns when it answers. The server then runs until Stop, or until this
// process dies; ctx bounds only the start. The error is one sentence that says what to do.
func Start(ctx context.Context, options Options) (*Server, error) {
	if options.Host == "" {
		options.Host = "127.0.0.1"
	}
	if options.Log == nil {
		options.Log = func(string, ...any) {}
	}
	f, err := openFolder(options)
	if err != nil {
		return nil, err
	}
	s, err := start(ctx, f, options)
	if err != nil {
		_ = f.leave(options.Ephemeral) // the first error is the one to report
		return nil, err
	}
	return s, nil
}

func start(ctx context.Context, f folder, options Options) (*Server, error) {
	programs, err := choosePrograms(ctx, f, options)
	if err != nil {
		return nil, err
	}
	password, err := f.initialize(ctx, programs, options.Ephemeral)
	if err != nil {
		return nil, err
	}
	f.awaitPredecessor()
	port, err := freePort(options.Host, options.Port) // last, so that nobody else takes it in the meantime
	if err != nil {
		return nil, err
	}
	s := &Server{Port: port, host: options.Host, password: password, folder: f, ephemeral: options.Ephemeral}
	s.stop = sync.OnceValue(s.shutDown)
	logged, err := s.launch(programs, options.Settings)
	if err != nil {
		return nil, err
	}
	if err := s.awaitReady(ctx, logged); err != nil {
		return nil, errors.Join(err, s.Stop())
	}
	return s, nil
}

// AdminURL is the superuser's URL of the database postgres. It holds a password.
func (s *Server) AdminURL() string {
	admin := url.URL{
		Scheme: "postgres", User: url.UserPassword(superuser, s.password), Path: "/postgres", RawQuery: "sslmode=disable",
		Host: net.JoinHostPort(s.host, strconv.Itoa(s.Port)),
	}
	return admin.String()
}

// Done is closed when the server has ended, by Stop or by itself.
func (s *Server) Done() <-chan struct{} { return s.process.Done() }

// Stop stops the server: it closes all connections and writes the data. It can be called again.
func (s *Server) Stop() error { return s.stop() }

func (s *Server) shutDown() error {
	s.process.Signal(syscall.SIGINT) // "fast": waits for no client
	if !endsWithin(s.process, stopPatience) {
		s.process.Signal(syscall.SIGQUIT) // "immediate": leaves the rest to the next start
		if !endsWithin(s.process, quitPatience) {
			return fmt.Errorf("PostgreSQL (process %d) does not stop: kill it", s.process.PID())
		}
	}
	return s.folder.leave(s.ephemeral)
}

// arguments returns the server's command line: TCP on one address, no socket file, and no other
// configuration.
func (s *Server) arguments(settings map[string]string) []string {
	all := map[string]string{
		"listen_addresses": s.host, "port": strconv.Itoa(s.Port), "unix_socket_directories": "",
		"max_connections": "300", "authentication_timeout": "10s",
		// A failed statement and its row may contain a password hash: keep them out of the log.
		"log_min_error_statement": "panic", "log_error_verbosity": "terse",
		// Autovacuum visits each database once in this time. With a thousand databases and one minute, it would never rest.
		"autovacuum_naptime": "10min",
		// Copying a database writes some 10 MB of WAL. A few hundred copies must not force checkpoints.
		"max_wal_size": "4GB",
	}
	if s.ephemeral {
		maps.Copy(all, map[string]string{"fsync": "off", "full_page_writes": "off", "synchronous_commit": "off"})
	}
	maps.Copy(all, settings)
	arguments := []string{"-D", s.folder.data()}
	for name, value := range all {
		arguments = append(arguments, "-c", name+"="+value)
	}
	return arguments
}

func endsWithin(p *children.Process, patience time.Duration) bool {
	select {
	case <-p.Done():
		return true
	case <-time.After(patience):
		return false
	}
}

// launch starts the server's process, and returns how long the log was before.
func (s *Server) launch(programs Programs, settings map[string]string) (logged int64, err error) {
	log, err := os.OpenFile(s.folder.log(), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return 0, fmt.Errorf("PostgreSQL's log cannot be written: %w", err)
	}
	defer log.Close()
	if info, err := log.Stat(); err == nil {
		logged = info.Size()
	}
	cmd := exec.Command(programs.path("postgres"), s.arguments(settings)...)
	cmd.Stdout, cmd.Stderr = log, log
	s.folder.prepare(cmd)
	s.process, err = children.Start(cmd, syscall.SIGINT)
	if err != nil {
		return 0, fmt.Errorf("PostgreSQL's program %s cannot be run: %w", cmd.Path, err)
	}
	return logged, nil
}

// awaitReady waits until the server accepts connections. This run's log begins at logged.
func (s *Server) awaitReady(ctx context.Context, logged int64) error {
	ctx, cancel := context.WithTimeout(ctx, startLimit)
	defer cancel()
	for {
		conn, err := pgx.Connect(ctx, s.AdminURL())
		if err == nil {
			return conn.Close(ctx)
		}
		select {
		case <-s.Done():
			return fmt.Errorf("PostgreSQL did not start: %s", s.folder.lastWords(logged))
		case <-ctx.Done():
			return fmt.Errorf("PostgreSQL does not answer on port %d (its log is %s): %w", s.Port, s.folder.log(), err)
		case <-time.After(pollInterval):
		}
	}
}

// freePort checks that a port is free, or picks a free one for 0.
func freePort(host string, port int) (int, error) {
	listener, err := net.Listen("tcp", net.JoinHostPort(host, strconv.Itoa(port)))
	if errors.Is(err, syscall.EADDRINUSE) {
		return 0, fmt.Errorf("port %d on %s is taken: stop what uses it, or choose another for PostgreSQL (port 0 picks a free one)", port, host)
	}
	if err != nil {
		return 0, fmt.Errorf("PostgreSQL cannot listen on %s, port %d: choose another address", host, port)
	}
	defer listener.Close()
	return listener.Addr().(*net.TCPAddr).Port, nil
}
