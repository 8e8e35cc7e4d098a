package tenantserver

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"strconv"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"

	"narthex/internal/postgres"
	"narthex/internal/schema"
	"narthex/internal/sqlstate"
)

// Limits bound how long a change of a database in use may delay others.
type Limits struct {
	Lock      time.Duration // for a statement's wait for a lock, behind which readers of the table wait
	Statement time.Duration // for a statement to run
	Patience  time.Duration // for waiting on taken locks, over all attempts
}

// Change is a change of a database's schema from one version to another, forward or back.
type Change struct {
	From, To int
	Until    time.Time // a backfill that isn't done by then pauses with schema.ErrPaused; zero if it need not
}

// mostStatements is how many statements of a file may each need all of their time.
const mostStatements = 5

// most is how long a change may take. It only ends what hangs, and a backfill that makes progress has no limit but Until.
func (c Change) most(l Limits) time.Duration {
	steps := max(c.From-c.To, c.To-c.From) + 1
	return time.Duration(steps)*(l.Patience+mostStatements*l.Statement) + max(0, time.Until(c.Until))
}

// Permit is called under a tenant's lock, and returns the password of its role. An error forbids what was about to be done.
type Permit = func(context.Context) (password string, err error)

// ChangeSchema changes the schema of d's database, which may be in use, under the tenant's lock. Objects belong to the
// church's role, as in a new database, because the change is made in a session of that role. Idempotent: it continues from the
// version that the database has reached. It returns the versions that it found and left; 0 if they are not known. Errors:
// ErrGone, ErrNotOwned, ErrUnknownVersion, ErrTooLong, permit's, schema.ErrDirty, or what PostgreSQL said, which is
// sqlstate.LockNotAvailable when limits' patience is over.
func (s *Server) ChangeSchema(ctx context.Context, d Database, change Change, limits Limits, permit Permit) (did Change, err error) {
	ctx, cancel := context.WithTimeoutCause(ctx, change.most(limits), ErrTooLong)
	defer cancel()
	err = s.permitted(ctx, d, permit, func(ctx context.Context, d Database) error {
		conn, err := s.connectAsChurch(ctx, d.Name(), d.Password, limits)
		if err != nil {
			return err
		}
		defer conn.Close(context.WithoutCancel(ctx))
		did, err = s.takeSteps(ctx, conn, change, limits)
		if err != nil && conn.IsClosed() { // it isn't known what was committed
			did.To, _ = s.versionOf(ctx, d, change)
		}
		return err
	})
	return did, err
}

// permitted calls do with d's password, under the tenant's lock. It ends do's context if the lock is lost.
func (s *Server) permitted(ctx context.Context, d Database, permit Permit, do func(context.Context, Database) error) error {
	return s.lockedTenant(ctx, d, func(admin *pgx.Conn) error {
		found, err := readState(ctx, admin, d)
		if err == nil {
			err = found.standing(d)
		}
		if err == nil {
			d.Password, err = permit(ctx)
		}
		if err != nil {
			return err
		}
		return kept(ctx, admin, func(ctx context.Context) error { return do(ctx, d) })
	})
}

const (
	keepPause = 5 * time.Second  // between two signs of life of a session that holds a lock; less than postgres.IdleLimit
	keepLimit = 10 * time.Second // for the answer
)

// kept keeps a session from being idle while do works elsewhere. If the session ends, it ends do's context.
func kept(ctx context.Context, session *pgx.Conn, do func(context.Context) error) error {
	ctx, lose := context.WithCancelCause(ctx)
	defer lose(nil)
	done := make(chan struct{})
	var keeping sync.WaitGroup
	keeping.Go(func() {
		for {
			select {
			case <-done:
				return
			case <-time.After(keepPause):
			}
			asking, cancel := context.WithTimeout(ctx, keepLimit)
			_, err := session.Exec(asking, `SELECT`)
			cancel()
			if err != nil {
				lose(fmt.Errorf("keep the tenant's lock: %w", err))
				return
			}
		}
	})
	err := do(ctx)
	close(done)
	keeping.Wait()
	if lost := context.Cause(ctx); err != nil && lost != nil {
		return lost
	}
	return err
}

// Version returns the version of d's database, once nobody changes it any more. An interrupted step of the change doesn't
// count. Errors: ErrGone, ErrNotOwned, ErrUnknownVersion, permit's, or what PostgreSQL said.
func (s *Server) Version(ctx context.Context, d Database, change Change, permit Permit) (at int, err error) {
	err = s.permitted(ctx, d, permit, func(ctx context.Context, d Database) (err error) {
		at, err = s.versionOf(ctx, d, change)
		return err
	})
	return at, err
}

func (s *Server) versionOf(ctx context.Context, d Database, change Change) (int, error) {
	conn, err := s.connectAsChurch(ctx, d.Name(), d.Password, probeLimits)
	if err != nil {
		return 0, err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	return s.version(ctx, conn, change)
}

// connectAsChurch logs in to a database as the role with its name, which can do nothing elsewhere.
func (s *Server) connectAsChurch(ctx context.Context, name, password string, limits Limits) (*pgx.Conn, error) {
	config, err := s.login(name, password)
	if err != nil {
		return nil, err
	}
	maps.Copy(config.RuntimeParams, limits.settings())
	config.RuntimeParams["search_path"] = "public"
	conn, err := pgx.ConnectConfig(ctx, config)
	if err != nil {
		return nil, fmt.Errorf("connect to tenant database: %w", err)
	}
	return conn, nil
}

func (l Limits) settings() map[string]string {
	return map[string]string{
		"lock_timeout":                        milliseconds(l.Lock),
		"statement_timeout":                   milliseconds(l.Statement),
		"idle_in_transaction_session_timeout": postgres.IdleLimit,
	}
}

func milliseconds(d time.Duration) string { return strconv.FormatInt(d.Milliseconds(), 10) + "ms" }

// version returns the version that a database has reached on its way from one version to another. A church can write any number
// into its version table. Errors: ErrUnknownVersion, or what PostgreSQL said.
func (s *Server) version(ctx context.Context, conn *pgx.Conn, change Change) (at int, err error) {
	at, err = schema.Version(ctx, conn)
	if errors.Is(err, schema.ErrDirty) { // an interrupted attempt was going to this version
		err = nil
		if at--; change.To < change.From {
			at += 2
		}
	}
	if err == nil && (at < 0 || at > s.SchemaVersion()) {
		return 0, ErrUnknownVersion
	}
	return at, err
}

// takeSteps returns the versions from which and to which it took the database.
func (s *Server) takeSteps(ctx context.Context, conn *pgx.Conn, change Change, limits Limits) (did Change, err error) {
	at, err := s.version(ctx, conn, change)
	did = Change{From: at, To: at}
	if err != nil {
		return did, err
	}
	steps, err := schema.Steps(s.files, at, change.To)
	if err != nil {
		return did, err
	}
	if _, err := conn.Exec(ctx, commitSoon); err != nil {
		return did, err
	}
	for _, step := range steps {
		step.Until = change.Until
		if err := patiently(ctx, limits.Patience, func() error { return schema.Take(ctx, conn, step) }); err != nil {
			return did, err
		}
		did.To = step.To
	}
	return did, schema.Flush(ctx, conn)
}

// A change has six commits or more, and each would wait for the disk. PostgreSQL writes them in order, so a crash loses
// only the newest, and the next attempt continues from there. So it is enough to wait for the last.
const commitSoon = `SET synchronous_commit = off`

// LosesData names the down migrations between two versions that may lose data: they don't state why they lose none.
func (s *Server) LosesData(from, to int) (files []string, err error) {
	steps, err := schema.Steps(s.files, from, to)
	if err != nil {
		return nil, err
	}
	for _, step := range steps {
		if step.Safe == "" {
			files = append(files, step.File)
		}
	}
	return files, nil
}

const (
	firstPause = 100 * time.Millisecond
	mostPause  = 2 * time.Second
)

// patiently retries do while a lock is taken. Its pauses are random and grow, so that others who wait for the lock get
// their turn.
func patiently(ctx context.Context, patience time.Duration, do func() error) error {
	deadline := time.Now().Add(patience)
	for pause := firstPause; ; pause = min(2*pause, mostPause) {
		err := do()
		state := sqlstate.Of(err)
		if state != sqlstate.LockNotAvailable && state != sqlstate.DeadlockDetected || time.Now().After(deadline) {
			return err
		}
		select {
		case <-ctx.Done():
			return errors.Join(ctx.Err(), err)
		case <-time.After(pause/2 + rand.N(pause)):
		}
	}
}
