// Package testenv gives tests a real PostgreSQL server and a real Temporal server. Each test process has
// one of each. A server starts when a test first asks for it; it is removed when the tests are done.
package testenv

import (
	"context"
	"flag"
	"fmt"
	"os"
	"sync"
	"testing"

	"narthex/internal/dev/localpg"
)

// Main runs a package's tests and then stops what they started. A package that uses this one calls it
// from its TestMain.
func Main(m *testing.M) {
	flag.Parse()
	if !given("test.parallel") {
		_ = flag.Set("test.parallel", parallel)
	}
	code := m.Run()
	for _, stop := range []func() error{temporal.stop, postgres.stop} {
		if err := stop(); err != nil {
			fmt.Fprintln(os.Stderr, "testenv:", err)
			code = 1
		}
	}
	os.Exit(code)
}

// MainOfPrograms is like Main, for a package whose tests run this module's programs as processes. These are
// built without the race detector, which would have nothing to check, so with it the tests are skipped.
func MainOfPrograms(m *testing.M) {
	if race {
		fmt.Println("skipped: the programs that these tests run are built without the race detector")
		os.Exit(0)
	}
	Main(m)
}

func given(name string) (found bool) {
	flag.Visit(func(f *flag.Flag) { found = found || f.Name == name })
	return found
}

// shared is a server that is started once per process.
type shared struct {
	start func(dir string) (address string, stop func() error, err error)

	once    sync.Once
	dir     string
	address string
	halt    func() error
	err     error
}

func (s *shared) get(t testing.TB) string {
	t.Helper()
	s.once.Do(func() {
		s.dir, s.err = makeFolder(usual)
		if s.err == nil {
			s.address, s.halt, s.err = s.start(s.dir)
		}
	})
	if s.err != nil {
		t.Fatal(s.err)
	}
	return s.address
}

func (s *shared) stop() (err error) {
	if s.halt != nil {
		err = s.halt()
	}
	if s.dir != "" {
		if removeErr := os.RemoveAll(s.dir); err == nil {
			err = removeErr
		}
	}
	return err
}

var postgres = &shared{start: func(dir string) (string, func() error, error) {
	server, err := localpg.Start(context.Background(), localpg.Options{Dir: dir + "/postgres", Host: "127.0.0.1", Ephemeral: true})
	if err != nil {
		return "", nil, err
	}
	return server.AdminURL(), server.Stop, nil
}}

// PostgresURL returns the superuser's URL of the process's PostgreSQL server.
func PostgresURL(t testing.TB) string {
	t.Helper()
	return postgres.get(t)
}
