package migrationcheck_test

import (
	"context"
	"slices"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"narthex/internal/dev/testenv"
)

const (
	rows = `
		INSERT INTO groups VALUES ('1', 'first'), ('2', 'second');
		INSERT INTO people (id, name, nick, age, score, born, note, amount, code, tags, seen, flags, group_id)
		SELECT i::text, 'a', 'b', 1, 1.5, now(), i::text, i, 'c', '{d}', now(), B'1', i::text FROM generate_series(1, 2) i`

	// A table, or an index, is written again if its file is another one.
	selectFiles = `
		SELECT array_agg(relname || ' ' || relfilenode ORDER BY relname) FROM pg_class
		WHERE relnamespace = 'public'::regnamespace AND relname = ANY ('{people,groups,people_pkey,people_note_idx}')`
	countReads   = `SELECT coalesce(sum(seq_scan), 0) FROM pg_stat_xact_user_tables WHERE relname IN ('people', 'groups')`
	selectLocked = `
		SELECT count(DISTINCT c.relname) FROM pg_locks l JOIN pg_class c ON c.oid = l.relation
		WHERE l.pid = pg_backend_pid() AND c.relname IN ('people', 'groups')
			AND l.mode IN ('AccessExclusiveLock', 'ExclusiveLock', 'ShareRowExclusiveLock', 'ShareLock')`
)

// effect is what PostgreSQL does to the tables that are there while a file runs.
type effect struct {
	failed, rewritten, read bool
	locked                  int
}

// The rules say of a statement that it writes or reads all rows. PostgreSQL itself is asked whether it does.
func TestPostgreSQLDoesWhatTheRulesSay(t *testing.T) {
	t.Parallel()
	costly := []string{"rewrite", "not-null", "unique", "foreign-key", "check"}
	conn := prepare(t)
	for rule, list := range examples {
		for _, e := range list {
			if strings.Contains(e.sql, "no transaction") || strings.Contains(e.sql, "COMMIT") || rule == "syntax" || rule == "enum" {
				continue // one transaction can't look into it
			}
			t.Run(rule+"/"+e.name, func(t *testing.T) {
				got := effectOf(t, conn, e)
				hurts := got.failed || got.rewritten || got.read
				if e.want == rule && slices.Contains(costly, rule) && !hurts {
					t.Errorf("%s\nis refused, and PostgreSQL says %+v: want rows written or read, or a failure", e.sql, got)
				}
				if e.want == "" && !readsByPurpose(e) && hurts {
					t.Errorf("%s\nis accepted, and PostgreSQL says %+v: want no rows written or read", e.sql, got)
				}
				if e.want == "locks" && got.locked != 2 {
					t.Errorf("%s\nlocks %d tables, want both", e.sql, got.locked)
				}
			})
		}
	}
}

// readsByPurpose tells of a file that may read rows: under a lock that lets others read and write, or because it is let through.
func readsByPurpose(e example) bool {
	for _, word := range []string{"VALIDATE", "ANALYZE", "-- backfill", "-- unsafe"} {
		if strings.Contains(e.sql, word) {
			return true
		}
	}
	return false
}

// prepare makes a database as it is before the examples.
func prepare(t *testing.T) *pgx.Conn {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), testenv.NewDatabase(t))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close(context.Background()) })
	exec(t, conn, first)
	exec(t, conn, rows)
	return conn
}

// effectOf runs an example in a transaction and takes it back.
func effectOf(t *testing.T, conn *pgx.Conn, e example) (got effect) {
	t.Helper()
	var filesBefore, filesAfter []string
	var readsBefore, readsAfter int
	exec(t, conn, "BEGIN; SET LOCAL timezone = 'Europe/Rome'")
	defer exec(t, conn, "ROLLBACK")
	for _, sql := range e.earlier {
		exec(t, conn, strings.Replace(sql, "CONCURRENTLY", "", 1))
	}
	query(t, conn, selectFiles, &filesBefore)
	query(t, conn, countReads, &readsBefore)
	if _, err := conn.PgConn().Exec(t.Context(), e.sql).ReadAll(); err != nil {
		t.Log(err)
		return effect{failed: true}
	}
	query(t, conn, selectFiles, &filesAfter)
	query(t, conn, countReads, &readsAfter)
	query(t, conn, selectLocked, &got.locked)
	got.rewritten = slices.ContainsFunc(filesAfter, func(file string) bool { return !slices.Contains(filesBefore, file) })
	got.read = readsAfter > readsBefore
	return got
}

func exec(t *testing.T, conn *pgx.Conn, sql string) {
	t.Helper()
	if _, err := conn.PgConn().Exec(t.Context(), sql).ReadAll(); err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
}

func query(t *testing.T, conn *pgx.Conn, sql string, result any) {
	t.Helper()
	if err := conn.QueryRow(t.Context(), sql).Scan(result); err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
}
