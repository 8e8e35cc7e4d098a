package localpg_test

import (
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"narthex/internal/dev/localpg"
	"narthex/internal/dev/testenv"
)

// parentVariable holds the folder in which the test program starts a server if it runs as the parent process.
const parentVariable = "NARTHEX_LOCALPG_PARENT"

func TestMain(m *testing.M) {
	dir := os.Getenv(parentVariable)
	if dir == "" {
		os.Exit(m.Run())
	}
	server, err := localpg.Start(context.Background(), localpg.Options{Dir: dir})
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	fmt.Println(server.AdminURL())
	time.Sleep(time.Minute)
}

// folder is where a server may keep its data.
func folder(t *testing.T) string {
	t.Helper()
	return filepath.Join(testenv.Folder(t), "postgres")
}

func start(t *testing.T, options localpg.Options) *localpg.Server {
	t.Helper()
	options.Log = t.Logf
	server, err := localpg.Start(t.Context(), options)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := server.Stop(); err != nil {
			t.Error(err)
		}
	})
	return server
}

// makeChurch writes a row that a later run must find.
func makeChurch(t *testing.T, url string) {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.WithoutCancel(t.Context()))
	if _, err := conn.Exec(t.Context(), `CREATE TABLE church AS SELECT 'Grace Chapel' AS name`); err != nil {
		t.Fatal(err)
	}
}

// ask runs a statement and returns its one value, as text.
func ask(t *testing.T, url, statement string) (value string) {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.WithoutCancel(t.Context()))
	if err := conn.QueryRow(t.Context(), statement).Scan(&value); err != nil {
		t.Fatalf("%s: %v", statement, err)
	}
	return value
}

func TestRestartKeepsData(t *testing.T) {
	t.Parallel()
	dir := folder(t)
	first := start(t, localpg.Options{Dir: dir, Settings: map[string]string{"max_connections": "50"}})
	makeChurch(t, first.AdminURL())
	for setting, want := range map[string]string{
		"max_connections": "50", "listen_addresses": "127.0.0.1", "unix_socket_directories": "", "fsync": "on", "server_encoding": "UTF8",
		"autovacuum_naptime": "10min", "max_wal_size": "4GB",
	} {
		if got := ask(t, first.AdminURL(), "SHOW "+setting); got != want {
			t.Errorf("%s is %q: want %q", setting, got, want)
		}
	}
	if err := first.Stop(); err != nil {
		t.Fatal(err)
	}
	second := start(t, localpg.Options{Dir: dir})
	if got := ask(t, second.AdminURL(), `SELECT name FROM church`); got != "Grace Chapel" {
		t.Errorf("the church is called %q after a restart", got)
	}
}

func TestThePasswordIsRequired(t *testing.T) {
	t.Parallel()
	dir := folder(t)
	server := start(t, localpg.Options{Dir: dir, Ephemeral: true})
	password, err := os.ReadFile(filepath.Join(dir, "password"))
	if err != nil {
		t.Fatal(err)
	}
	wrong := strings.Replace(server.AdminURL(), string(password), "wrong", 1)
	if conn, err := pgx.Connect(t.Context(), wrong); err == nil {
		conn.Close(t.Context())
		t.Error("a wrong password is accepted")
	}
	if info, err := os.Stat(filepath.Join(dir, "password")); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the password's file has mode %v: want 0600", info.Mode())
	}
}

func TestInterruptedInitIsRepeated(t *testing.T) {
	t.Parallel()
	dir := folder(t)
	if err := os.MkdirAll(filepath.Join(dir, "data.new", "base"), 0o700); err != nil {
		t.Fatal(err)
	}
	start(t, localpg.Options{Dir: dir, Ephemeral: true})
}

func TestKilledParent(t *testing.T) {
	t.Parallel()
	dir := folder(t)
	parent, url := startInParent(t, dir)
	makeChurch(t, url)
	lock, err := os.ReadFile(filepath.Join(dir, "data", "postmaster.pid"))
	if err != nil {
		t.Fatal(err)
	}
	if err := parent.Kill(); err != nil {
		t.Fatal(err)
	}
	_, _ = parent.Wait()
	// At once, while the orphaned server is still stopping.
	server := start(t, localpg.Options{Dir: dir})
	if got := ask(t, server.AdminURL(), `SELECT name FROM church`); got != "Grace Chapel" {
		t.Errorf("the church is called %q", got)
	}
	pid, _, _ := strings.Cut(string(lock), "\n")
	if works, err := os.Readlink(filepath.Join("/proc", pid, "cwd")); err == nil && works == filepath.Join(dir, "data") {
		t.Errorf("process %s has outlived its parent", pid)
	}
}

func TestStalePidFile(t *testing.T) {
	t.Parallel()
	dir := folder(t)
	first := start(t, localpg.Options{Dir: dir, Ephemeral: true})
	lockFile := filepath.Join(dir, "data", "postmaster.pid")
	lock, err := os.ReadFile(lockFile)
	if err != nil {
		t.Fatal(err)
	}
	if err := first.Stop(); err != nil {
		t.Fatal(err)
	}
	// A power failure leaves such a file, with an id that belongs to another process by now.
	_, rest, _ := strings.Cut(string(lock), "\n")
	if err := os.WriteFile(lockFile, fmt.Appendf(nil, "%d\n%s", 1, rest), 0o644); err != nil {
		t.Fatal(err)
	}
	start(t, localpg.Options{Dir: dir, Ephemeral: true})
}

func TestTakenPort(t *testing.T) {
	t.Parallel()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	port := listener.Addr().(*net.TCPAddr).Port
	_, err = localpg.Start(t.Context(), localpg.Options{Dir: folder(t), Port: port})
	if want := fmt.Sprintf("port %d on 127.0.0.1 is taken: stop what uses it", port); err == nil || !strings.HasPrefix(err.Error(), want) {
		t.Errorf("the error is %v: want %q", err, want)
	}
}

func TestBadSetting(t *testing.T) {
	t.Parallel()
	_, err := localpg.Start(
		t.Context(),
		localpg.Options{Dir: folder(t), Ephemeral: true, Settings: map[string]string{"max_connections": "many"}},
	)
	if err == nil || !strings.Contains(err.Error(), `invalid value for parameter "max_connections"`) {
		t.Errorf("the error is %v: want PostgreSQL's own", err)
	}
}
