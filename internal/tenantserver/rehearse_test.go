package tenantserver_test

import (
	"context"
	"errors"
	"fmt"
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
