package postgres_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"narthex/internal/dev/localpg"
	"narthex/internal/dev/testenv"
	"narthex/internal/postgres"
	"narthex/internal/sqlstate"
)

func TestMain(m *testing.M) { testenv.Main(m) }

const connections = 4

// world is a database with a table of notes, and a pool on it.
type world struct {
	t     *testing.T
	pool  *postgres.Pool
	admin *pgxpool.Pool
	cut   atomic.Bool // breaks the connection at its next answer
}

func newWorld(t *testing.T) *world {
	t.Helper()
	return newWorldAt(t, testenv.NewDatabase(t))
}

func newWorldAt(t *testing.T, at string) *world {
	t.Helper()
	w := &world{t: t}
	config, err := pgxpool.ParseConfig(at)
	if err != nil {
		t.Fatal(err)
	}
	config.MaxConns = connections
	config.ConnConfig.DialFunc = func(ctx context.Context, network, address string) (net.Conn, error) {
		conn, err := (&net.Dialer{}).DialContext(ctx, network, address)
		return cuttable{conn, &w.cut}, err
	}
	if w.pool, err = postgres.Open(t.Context(), config); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(w.pool.Close)
	w.admin = testenv.OpenPool(t, at)
	w.exec(`CREATE TABLE notes (id text, body text)`)
	return w
}

// cuttable is a connection that can break so that what was sent arrives, but the answer is lost.
type cuttable struct {
	net.Conn
	cut *atomic.Bool
}

func (c cuttable) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	if c.cut.CompareAndSwap(true, false) {
		_ = c.Close()
		return 0, io.EOF
	}
	return n, err
}

func (w *world) exec(sql string) {
	w.t.Helper()
	if _, err := w.admin.Exec(w.t.Context(), sql); err != nil {
		w.t.Fatalf("%s: %v", sql, err)
	}
}

const (
	insertNote  = `INSERT INTO notes (id, body) VALUES ($1, 'body')`
	selectNotes = `SELECT id, body FROM notes`
	countNotes  = `SELECT count(*) FROM notes WHERE id = $1`
	endSessions = `SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()`
)

func (w *world) count(id string) (n int) {
	w.t.Helper()
	if err := w.admin.QueryRow(w.t.Context(), countNotes, id).Scan(&n); err != nil {
		w.t.Fatal(err)
	}
	return n
}

// each calls do on all the pool's connections at once, and reports its errors.
func (w *world) each(do func(n int) error) {
	w.t.Helper()
	var held []*pgxpool.Conn // all at the same time, so that every connection is open
	for range connections {
		conn, err := w.pool.Acquire(w.t.Context())
		if err != nil {
			w.t.Fatal(err)
		}
		held = append(held, conn)
	}
	for _, conn := range held {
		conn.Release()
	}
	var group sync.WaitGroup
	for n := range connections {
		group.Go(func() {
			if err := do(n); err != nil {
				w.t.Errorf("call %d: %v", n, err)
			}
		})
	}
	group.Wait()
}

func (w *world) insert(n int) error {
	_, err := w.pool.Exec(w.t.Context(), insertNote, fmt.Sprint("note ", n))
	return err
}

func (w *world) insertInTx(n int) error {
	return w.pool.InTx(w.t.Context(), func(tx pgx.Tx) error {
		_, err := tx.Exec(w.t.Context(), insertNote, fmt.Sprint("note ", n))
		return err
	})
}

func (w *world) insertInBatch(n int) error {
	var batch pgx.Batch
	batch.Queue(`SELECT pg_advisory_xact_lock($1)`, n)
	batch.Queue(insertNote, fmt.Sprint("note ", n))
	return w.pool.SendBatch(w.t.Context(), &batch)
}

func (w *world) read(int) error {
	_, err := postgres.All(w.t.Context(), w.pool, pgx.RowToMap, selectNotes)
	return err
}

func TestSessionsOpenedWhileReadOnlyAreReplaced(t *testing.T) {
	t.Parallel()
	for name, insert := range map[string]func(*world, int) error{
		"statement": (*world).insert, "transaction": (*world).insertInTx, "batch": (*world).insertInBatch,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			set := `ALTER DATABASE ` + w.pool.Config().ConnConfig.Database
			w.exec(set + ` SET default_transaction_read_only = on`)
			w.each(w.read)
			w.exec(set + ` RESET default_transaction_read_only`)
			before := w.pool.Stat().NewConnsCount()
			w.each(func(n int) error { return insert(w, n) })
			w.each(w.read)
			if opened := w.pool.Stat().NewConnsCount() - before; opened > connections {
				t.Errorf("%d connections were opened, want at most %d: all at once, once", opened, connections)
			}
		})
	}
}

// Reads continue while a server stays read-only, and open few connections.
func TestAReadOnlyServerIsNotFloodedWithConnections(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.exec(`ALTER DATABASE ` + w.pool.Config().ConnConfig.Database + ` SET default_transaction_read_only = on`)
	w.each(w.read)
	before, began := w.pool.Stat().NewConnsCount(), time.Now()
	const writes, readsEach = 20, 10
	for n := range writes {
		if err := w.insert(n); sqlstate.Of(err) != "25006" {
			t.Fatalf("a write to a read-only server says %v, want 25006", err)
		}
		for range readsEach {
			if err := w.read(0); err != nil {
				t.Fatal(err)
			}
		}
	}
	resets := int64(time.Since(began)/(250*time.Millisecond)) + 1
	opened, most := w.pool.Stat().NewConnsCount()-before, 2*writes+resets*connections
	if opened > most {
		t.Errorf("%d connections were opened for %d writes, want at most %d", opened, writes, most)
	}
}

func TestEndedSessionsAreReplaced(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	for name, do := range map[string]func(int) error{
		"statement": w.insert, "transaction": w.insertInTx, "batch": w.insertInBatch, "read": w.read,
	} {
		w.each(w.read)
		w.exec(endSessions)
		w.each(do)
		if t.Failed() {
			t.Fatalf("that was a %s", name)
		}
	}
}

// PostgreSQL reports that it ends a session only if it hasn't committed, so a retry commits nothing twice.
func TestNothingIsCommittedTwiceWhenSessionsEnd(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	stop := make(chan struct{})
	var killer, clients sync.WaitGroup
	killer.Go(func() {
		for {
			select {
			case <-stop:
				return
			case <-time.After(2 * time.Millisecond):
				w.exec(endSessions + ` AND query LIKE 'INSERT%'`)
			}
		}
	})
	var done, failed atomic.Int64
	for client := range connections {
		clients.Go(func() {
			insert := []func(int) error{w.insert, w.insertInTx, w.insertInBatch}[client%3]
			for n := range 150 {
				id := client*1000 + n
				err := insert(id)
				stored := w.count(fmt.Sprint("note ", id))
				switch {
				case stored > 1, err == nil && stored != 1:
					t.Errorf("note %d was stored %d times (%v)", id, stored, err)
				case err != nil:
					failed.Add(1)
				default:
					done.Add(1)
				}
			}
		})
	}
	clients.Wait()
	close(stop)
	killer.Wait()
	t.Logf("%d inserts worked, %d failed, over %d connections", done.Load(), failed.Load(), w.pool.Stat().NewConnsCount())
}

// If an answer is lost, nobody knows whether the statement was committed.
func TestALostAnswerIsRetriedOnlyIfThatCannotCommitTwice(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	cutIn := func(do func(int) error, n int) error {
		if err := w.read(0); err != nil { // so that the connection is open
			t.Fatal(err)
		}
		w.cut.Store(true)
		return do(n)
	}
	if err := cutIn(w.read, 0); err != nil {
		t.Errorf("a read returns %v, want a successful retry", err)
	}
	if err := w.insert(0); err != nil { // prepares the statement
		t.Fatal(err)
	}
	if err := cutIn(w.insert, 1); !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("an insert whose answer is lost returns %v, want an EOF error", err)
	}
	if n := w.count("note 1"); n != 1 {
		t.Errorf("the insert was committed %d times, want once", n)
	}
	calls := 0
	err := w.pool.InTx(t.Context(), func(tx pgx.Tx) error {
		calls++
		w.cut.Store(calls == 1)
		_, err := tx.Exec(t.Context(), insertNote, "note 2")
		return err
	})
	if n := w.count("note 2"); err != nil || calls != 2 || n != 1 {
		t.Errorf("a transaction that broke before its commit ran %d times, was committed %d times: %v; want 2, 1 and no error", calls, n, err)
	}
	calls = 0
	err = w.pool.InTx(t.Context(), func(tx pgx.Tx) error {
		calls++
		_, err := tx.Exec(t.Context(), insertNote, "note 3")
		w.cut.Store(true)
		return err
	})
	if n := w.count("note 3"); err == nil || calls != 1 || n != 1 {
		t.Errorf("a transaction whose answer was lost ran %d times, was committed %d times: %v; want 1, 1 and an error", calls, n, err)
	}
}

// A statement that was prepared before a column's type changed fails once on each connection.
func TestChangedColumnsFailNothing(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	const other = `SELECT body FROM notes WHERE id = $1`
	readInTx := func(int) error {
		return w.pool.InTx(t.Context(), func(tx pgx.Tx) error {
			for _, sql := range []string{selectNotes, other} {
				args := []any{"x"}[:strings.Count(sql, "$")]
				rows, _ := tx.Query(t.Context(), sql, args...)
				if _, err := pgx.CollectRows(rows, pgx.RowToMap); err != nil {
					return err
				}
			}
			return nil
		})
	}
	readInBatch := func(int) error {
		var batch pgx.Batch
		batch.Queue(selectNotes)
		batch.Queue(other, "x")
		return w.pool.SendBatch(t.Context(), &batch)
	}
	readRow := func(int) error {
		var body string
		if err := w.pool.QueryRow(t.Context(), other, "x").Scan(&body); !errors.Is(err, pgx.ErrNoRows) {
			return fmt.Errorf("a missing row says %w", err)
		}
		return nil
	}
	before := w.pool.Stat().NewConnsCount()
	for _, kind := range []string{"text", "varchar(100)", "text"} {
		w.exec(`ALTER TABLE notes ALTER body TYPE ` + kind)
		for range 2 {
			for _, do := range []func(int) error{w.read, readInTx, readInBatch, readRow} {
				w.each(do)
			}
		}
		w.exec(`ALTER TABLE notes ALTER body TYPE varchar(50)`)
		w.each(readInTx)
		w.exec(`ALTER TABLE notes ALTER body TYPE ` + kind)
		w.each(readInBatch)
	}
	if opened := w.pool.Stat().NewConnsCount() - before; opened > connections {
		t.Errorf("%d connections were opened, want the %d kept", opened, connections)
	}
}

// startWritable starts a server with a table of notes, and returns its address and a session on it.
func startWritable(t *testing.T) (*url.URL, *pgx.Conn) {
	t.Helper()
	server, err := localpg.Start(t.Context(), localpg.Options{Dir: testenv.Folder(t) + "/postgres", Ephemeral: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = server.Stop() })
	conn := testenv.Connect(t, server.AdminURL())
	const prepare = `ALTER ROLE postgres PASSWORD 'failover'; CREATE TABLE notes (id text, body text)`
	if _, err := conn.Exec(t.Context(), prepare); err != nil {
		t.Fatal(err)
	}
	at, err := url.Parse(server.AdminURL())
	if err != nil {
		t.Fatal(err)
	}
	return at, conn
}

// setReadOnly sets whether a server is read-only ("on" or "off"), and waits until it is.
func setReadOnly(t *testing.T, server *pgx.Conn, setting string) {
	t.Helper()
	for _, sql := range []string{`ALTER SYSTEM SET default_transaction_read_only = ` + setting, `SELECT pg_reload_conf()`} {
		if _, err := server.Exec(t.Context(), sql); err != nil {
			t.Fatalf("%s: %v", sql, err)
		}
	}
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		var now string
		err := server.QueryRow(t.Context(), `SHOW default_transaction_read_only`).Scan(&now)
		if err != nil || time.Now().After(deadline) {
			t.Fatalf("default_transaction_read_only is %s (%v), want %s", now, err, setting)
		}
		if now == setting {
			return
		}
	}
}

// With target_session_attrs=read-write, each new connection leads to the server that accepts writes.
func TestFailoverToTheOtherServer(t *testing.T) {
	t.Parallel()
	first, a := startWritable(t)
	at, b := startWritable(t)
	servers := []*pgx.Conn{a, b}
	setReadOnly(t, servers[1], "on")
	at.User, at.Host = url.UserPassword("postgres", "failover"), first.Host+","+at.Host
	query := at.Query()
	query.Set("target_session_attrs", "read-write")
	at.RawQuery = query.Encode()
	config, err := pgxpool.ParseConfig(at.String())
	if err != nil {
		t.Fatal(err)
	}
	pool, err := postgres.Open(t.Context(), config)
	if err != nil {
		t.Fatal(err)
	}
	defer pool.Close()
	for turn := range 4 {
		takes := turn % 2
		setReadOnly(t, servers[takes], "off")
		setReadOnly(t, servers[1-takes], "on")
		id := fmt.Sprint("note ", turn)
		if _, err := pool.Exec(t.Context(), insertNote, id); err != nil {
			t.Fatalf("turn %d: %v", turn, err)
		}
		var n int
		if err := servers[takes].QueryRow(t.Context(), countNotes, id).Scan(&n); err != nil || n != 1 {
			t.Errorf("turn %d: the server that accepts writes has the note %d times (%v), want once", turn, n, err)
		}
	}
}
