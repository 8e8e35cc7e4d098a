package tenantserver_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/jackc/pgx/v5"

	"narthex/internal/tenantserver"
)

// A rehearsal is as patient as a run: it doesn't fail because a lock is taken for a while.
func TestARehearsalWaitsForLocksAsARunDoes(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	d := h.make()
	files, newest := later(t)
	index := fmt.Sprintf("%06d_index.up.sql", newest+1)
	files[index] = &fstest.MapFile{Data: []byte("-- no transaction\nCREATE INDEX CONCURRENTLY branches_planted_idx ON branches (planted)")}
	change := tenantserver.Change{From: newest - 1, To: newest + 1}
	server, err := tenantserver.Open(t.Context(), h.url, "test", files)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(server.Close)
	rehearsed := make(chan error, 1)
	go func() {
		limits := tenantserver.Limits{Lock: 20 * time.Millisecond, Statement: time.Minute, Patience: time.Minute}
		_, err := server.Rehearse(t.Context(), d, change, limits)
		rehearsed <- err
	}()
	h.holdUpCopy()
	if err := <-rehearsed; err != nil {
		t.Errorf("the rehearsal fails with %v, want it to wait", err)
	}
}

// holdUpCopy keeps a transaction open in the host's scratch database until an index has waited for it for a while.
func (h *host) holdUpCopy() {
	h.t.Helper()
	config := h.admin.Config().Copy()
	await := func(conn *pgx.Conn, into any, sql string, args ...any) {
		h.t.Helper()
		for deadline := time.Now().Add(time.Minute); ; time.Sleep(time.Millisecond) {
			err := conn.QueryRow(h.t.Context(), sql, args...).Scan(into)
			if err == nil {
				return
			}
			if !errors.Is(err, pgx.ErrNoRows) || time.Now().After(deadline) {
				h.t.Fatalf("%s: %v", sql, err)
			}
		}
	}
	await(h.admin, &config.Database, `
		SELECT datname FROM pg_database WHERE datname LIKE 'scratch\_%' AND datallowconn AND pg_has_role($1, datdba, 'MEMBER')`, h.role)
	conn, err := pgx.ConnectConfig(h.t.Context(), config)
	if err != nil {
		h.t.Fatal(err)
	}
	defer conn.Close(context.Background())
	exec(h.t, conn, `BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT`)
	look, err := pgx.ConnectConfig(h.t.Context(), config)
	if err != nil {
		h.t.Fatal(err)
	}
	defer look.Close(context.Background())
	var index string
	await(look, &index, `SELECT indexrelid::regclass::text FROM pg_index WHERE NOT indisvalid`)
	time.Sleep(300 * time.Millisecond) // longer than the rehearsal may wait for a lock at a time
}

// A restore that fails ends the rehearsal, even if the dump has more to say than fits in the pipe between them.
func TestARehearsalEndsWhenTheRestoreFails(t *testing.T) {
	t.Parallel()
	u := newUpgrader(t)
	u.asChurch(`
		CREATE FUNCTION public.at_home() RETURNS boolean LANGUAGE plpgsql AS $$
		BEGIN
			IF current_database() LIKE 'scratch%' THEN RAISE EXCEPTION 'not here'; END IF;
			RETURN true;
		END $$;
		CREATE TABLE public.a_first (id int CHECK (public.at_home()));
		INSERT INTO public.a_first VALUES (1);
		CREATE TABLE public.a_second AS SELECT repeat('word', 1000) AS words FROM generate_series(1, 500)`)
	u.wantRehearsalFails("with a restore that fails", usualLimits)
}

// A church that locks its tables ends the rehearsal of its change once the run's patience is over.
func TestARehearsalDoesNotWaitForLocksForever(t *testing.T) {
	t.Parallel()
	u := newUpgrader(t)
	exec(t, u.conn, `BEGIN; LOCK TABLE branches IN ACCESS EXCLUSIVE MODE`)
	limits := usualLimits
	limits.Patience = 300 * time.Millisecond
	u.wantRehearsalFails("with a table that stays locked", limits)
}

// wantRehearsalFails expects a rehearsal to fail soon, because its copy can't be made.
func (u *upgrader) wantRehearsalFails(when string, limits tenantserver.Limits) {
	u.t.Helper()
	const want = "copy database by pg_dump and pg_restore: "
	ctx, cancel := context.WithTimeout(u.t.Context(), 20*time.Second)
	defer cancel()
	_, err := u.next.Rehearse(ctx, u.d, u.there, limits)
	if err == nil || !strings.HasPrefix(err.Error(), want) || ctx.Err() != nil {
		u.t.Errorf("%s, the rehearsal ends with %v, its context with %v; want %q and no end of the context", when, err, ctx.Err(), want)
	}
}
