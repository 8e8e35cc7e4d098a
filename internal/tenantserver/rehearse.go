package tenantserver

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"

	"narthex/internal/children"
	"narthex/internal/ids"
	"narthex/internal/postgres"
	"narthex/internal/schema"
)

// ErrNoPrograms means that PostgreSQL's pg_dump and pg_restore are not installed where the worker runs.
var ErrNoPrograms = errors.New("pg_dump and pg_restore are not installed beside the worker")

// Rehearsed is what a change did to a copy of a database.
type Rehearsed struct {
	Size     int64 // of the copy before, in bytes
	Took     time.Duration
	Locks    []string // on the church's tables, as "AccessExclusiveLock on branches"
	Rewrites []string // tables that were rewritten
	WAL      int64    // bytes, including what others have written on the server in the meantime
	Disk     int64    // bytes by which the copy has grown
}

// Rehearse makes a change on a copy of d's database, and drops the copy. The copy is restored from a dump, because a
// database in use can't be a template. Errors: ErrNoPrograms, ErrGone, ErrNotOwned, or why the change failed.
func (s *Server) Rehearse(ctx context.Context, d Database, change Change, limits Limits) (did Rehearsed, err error) {
	if _, err := s.look(ctx, d); err != nil {
		return Rehearsed{}, err
	}
	err = s.InScratch(ctx, Scratch{Life: rehearsalLife, Empty: true}, func(name string) error {
		password, err := s.letIn(ctx, name)
		if err != nil {
			return err
		}
		if err := s.copyByDump(ctx, d, name, password, limits); err != nil {
			return err
		}
		conn, err := s.connectAsChurch(ctx, name, password, limits)
		if err != nil {
			return err
		}
		defer conn.Close(context.WithoutCancel(ctx))
		did, err = s.rehearseOn(ctx, conn, change, limits.Patience)
		return err
	})
	return did, err
}

const (
	rehearsalLife = 6 * time.Hour
	letRoleIn     = `ALTER ROLE %s LOGIN PASSWORD '%s'`
)

// letIn lets the role of a scratch database log in to it. A copy runs what the church has made, when it is restored and
// when it is changed, so that must not happen in a session of Narthex's role.
func (s *Server) letIn(ctx context.Context, name string) (password string, err error) {
	password = rand.Text()
	verifier, err := scramVerifier(password)
	if err != nil {
		return "", fmt.Errorf("hash role password: %w", err)
	}
	if _, err := s.pool.Exec(ctx, fmt.Sprintf(letRoleIn, name, verifier)); err != nil {
		return "", fmt.Errorf("let the copy's role log in: %w", err)
	}
	return password, nil
}

const (
	copyLimit = time.Hour        // for the dump and the restore, which runs what the church has made
	stopLimit = 10 * time.Second // for a program to cancel its statement and end
)

// copyByDump restores a dump of d's database into another. Each is read or written by the role that owns it.
func (s *Server) copyByDump(ctx context.Context, d Database, to, password string, limits Limits) error {
	ctx, cancel := context.WithTimeout(ctx, copyLimit)
	defer cancel()
	dump, err := s.client(ctx, "pg_dump", d.Name(), d.Password, "--format=custom", "--compress=0", "--no-owner", "--no-acl",
		"--lock-wait-timeout="+milliseconds(max(limits.Lock, limits.Patience)))
	if err != nil {
		return err
	}
	restore, err := s.client(ctx, "pg_restore", to, password, "--no-owner", "--no-acl", "--exit-on-error")
	if err != nil {
		return err
	}
	if err := piped(dump, restore); err != nil {
		return fmt.Errorf("copy database by pg_dump and pg_restore: %w", cmp.Or(ctx.Err(), err))
	}
	return nil
}

// piped runs two programs, the second of which reads what the first writes. They end when this process ends.
func piped(from, to *exec.Cmd) error {
	read, write, err := os.Pipe()
	if err != nil {
		return err
	}
	from.Stdout, to.Stdin = write, read
	reading, err := children.Start(to, syscall.SIGTERM)
	read.Close() // so that the writer ends if the reader does
	if err != nil {
		write.Close()
		return err
	}
	writing, err := children.Start(from, syscall.SIGTERM)
	write.Close()
	if err == nil {
		<-writing.Done()
		err = writing.Err()
	}
	<-reading.Done()
	return cmp.Or(err, reading.Err())
}

// client prepares one of PostgreSQL's programs to work on a database as the role with its name. It passes the password in the
// environment, which other users can't read.
func (s *Server) client(ctx context.Context, program, name, password string, arguments ...string) (*exec.Cmd, error) {
	path, err := exec.LookPath(program)
	if err != nil {
		folders, _ := filepath.Glob("/usr/lib/postgresql/*/bin/" + program)
		if len(folders) == 0 {
			return nil, ErrNoPrograms
		}
		path = slices.MaxFunc(folders, func(a, b string) int { return cmp.Compare(majorOf(a), majorOf(b)) })
	}
	config := s.pool.Config().ConnConfig
	cmd := exec.CommandContext(ctx, path, append(arguments, "--dbname="+name)...)
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) } // it cancels its statement, which may wait for a lock
	cmd.WaitDelay = stopLimit
	cmd.Env = append(os.Environ(), "PGHOST="+config.Host, "PGPORT="+strconv.Itoa(int(config.Port)), "PGUSER="+name,
		"PGPASSWORD="+password, "PGCONNECT_TIMEOUT=10")
	for parameter, variable := range map[string]string{
		"sslmode": "PGSSLMODE", "sslrootcert": "PGSSLROOTCERT", "sslcert": "PGSSLCERT", "sslkey": "PGSSLKEY",
	} {
		if value := s.base.Query().Get(parameter); value != "" {
			cmd.Env = append(cmd.Env, variable+"="+value)
		}
	}
	cmd.Stdout, cmd.Stderr = io.Discard, io.Discard // their output may quote rows
	return cmd, nil
}

// majorOf returns the version in a path like /usr/lib/postgresql/16/bin/pg_dump.
func majorOf(path string) int {
	major, _ := strconv.Atoi(filepath.Base(filepath.Dir(filepath.Dir(path))))
	return major
}

const (
	selectSigns = `
		SELECT pg_database_size(current_database()), pg_wal_lsn_diff(pg_current_wal_insert_lsn(), '0/0')::bigint`
	selectFiles = `
		SELECT oid::regclass::text, pg_relation_filenode(oid)::bigint FROM pg_class
		WHERE relnamespace = 'public'::regnamespace AND relkind = 'r' AND oid < $1`
	selectNextID = `SELECT max(oid)::bigint + 1 FROM pg_class`
	// Others can wait only for tables that existed before.
	selectLocks = `
		SELECT mode || ' on ' || relation::regclass::text FROM pg_locks l JOIN pg_class c ON c.oid = l.relation
		WHERE pid = $1 AND granted AND c.relnamespace = 'public'::regnamespace AND c.relkind = 'r' AND c.oid < $2
		AND mode NOT IN ('AccessShareLock', 'RowShareLock', 'RowExclusiveLock') ORDER BY 1`
)

const (
	mostLargest   = 20
	selectLargest = `
		WITH mine AS MATERIALIZED ( -- only roles that may connect may ask for the size
			SELECT oid, datname FROM pg_database
			WHERE starts_with(datname, $1) AND datallowconn AND NOT datistemplate AND has_database_privilege(oid, 'CONNECT'))
		SELECT substr(datname, length($1) + 1) FROM mine ORDER BY pg_database_size(oid) DESC LIMIT $2`
)

// LargestTenants returns the ids of the tenants with the largest databases, the largest first.
func (s *Server) LargestTenants(ctx context.Context) ([]string, error) {
	largest, err := postgres.All(ctx, s.pool, pgx.RowTo[string], selectLargest, ids.DatabasePrefix, mostLargest)
	if err != nil {
		return nil, fmt.Errorf("list the largest databases: %w", err)
	}
	return largest, nil
}

// rehearseOn makes a change on a copy and observes it.
func (s *Server) rehearseOn(
	ctx context.Context, conn *pgx.Conn, change Change, patience time.Duration,
) (did Rehearsed, err error) {
	steps, err := schema.Steps(s.files, change.From, change.To)
	if err != nil {
		return Rehearsed{}, err
	}
	w := &witness{conn: conn}
	if err := w.before(ctx); err != nil {
		return Rehearsed{}, err
	}
	for _, step := range steps {
		step.BeforeCommit = func(ctx context.Context, _ pgx.Tx) error { return w.noteLocks(ctx, conn) }
		stop := func() {}
		if !step.InTransaction {
			stop, err = w.watch(ctx)
			if err != nil {
				return Rehearsed{}, err
			}
		}
		began := time.Now()
		err := patiently(ctx, patience, func() error { return schema.Take(ctx, conn, step) })
		w.did.Took += time.Since(began)
		stop()
		if err != nil {
			return w.did, err
		}
	}
	return w.did, w.after(ctx)
}

// witness observes what is done on a connection.
type witness struct {
	conn   *pgx.Conn
	nextID int64
	files  map[string]int64 // of each table
	wal    int64
	did    Rehearsed
}

func (w *witness) before(ctx context.Context) (err error) {
	if err := w.conn.QueryRow(ctx, selectNextID).Scan(&w.nextID); err != nil {
		return fmt.Errorf("look at the copy: %w", err)
	}
	w.files, err = w.readFiles(ctx)
	if err != nil {
		return err
	}
	if err := w.conn.QueryRow(ctx, selectSigns).Scan(&w.did.Size, &w.wal); err != nil {
		return fmt.Errorf("look at the copy: %w", err)
	}
	return nil
}

func (w *witness) after(ctx context.Context) error {
	var size, wal int64
	if err := w.conn.QueryRow(ctx, selectSigns).Scan(&size, &wal); err != nil {
		return fmt.Errorf("look at the copy: %w", err)
	}
	w.did.Disk, w.did.WAL = size-w.did.Size, wal-w.wal
	files, err := w.readFiles(ctx)
	if err != nil {
		return err
	}
	for table, file := range files {
		if before, ok := w.files[table]; ok && before != file {
			w.did.Rewrites = append(w.did.Rewrites, table)
		}
	}
	slices.Sort(w.did.Rewrites)
	return nil
}

func (w *witness) readFiles(ctx context.Context) (map[string]int64, error) {
	files := map[string]int64{}
	rows, _ := w.conn.Query(ctx, selectFiles, w.nextID)
	var table string
	var file int64
	_, err := pgx.ForEachRow(rows, []any{&table, &file}, func() error {
		files[table] = file
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("look at the copy's files: %w", err)
	}
	return files, nil
}

// noteLocks records the locks that the connection holds, as seen from by, a connection to the same database.
func (w *witness) noteLocks(ctx context.Context, by *pgx.Conn) error {
	rows, _ := by.Query(ctx, selectLocks, w.conn.PgConn().PID(), w.nextID)
	held, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		return fmt.Errorf("look at the locks: %w", err)
	}
	for _, lock := range held {
		if !slices.Contains(w.did.Locks, lock) {
			w.did.Locks = append(w.did.Locks, lock)
		}
	}
	return nil
}

const watchPause = 2 * time.Millisecond

// watch records locks from another connection until it is stopped, for a statement that can't run in a transaction. It
// may miss locks that are held for less than watchPause.
func (w *witness) watch(ctx context.Context) (stop func(), err error) {
	by, err := pgx.ConnectConfig(ctx, w.conn.Config())
	if err != nil {
		return nil, fmt.Errorf("connect to watch the copy: %w", err)
	}
	ctx, cancel := context.WithCancel(ctx)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for ctx.Err() == nil && w.noteLocks(ctx, by) == nil {
			time.Sleep(watchPause)
		}
	}()
	return func() {
		cancel()
		<-done
		by.Close(context.WithoutCancel(ctx))
	}, nil
}
