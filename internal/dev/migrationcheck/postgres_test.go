package migrationcheck_test

import (
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

	// A table or index has been rewritten if it has a new file.
	selectFiles = `
		SELECT array_agg(relname || ' ' || relfilenode ORDER BY relname) FROM pg_class
		WHERE relnamespace = 'public'::regnamespace AND relname = ANY ('{people,groups,people_pkey,people_note_idx}')`
	countReads   = `SELECT coalesce(sum(seq_scan), 0) FROM pg_stat_xact_user_tables WHERE relname IN ('people', 'groups')`
	selectLocked = `
		SELECT count(DISTINCT c.relname) FROM pg_locks l JOIN pg_class c ON c.oid = l.relation
		WHERE l.pid = pg_backend_pid() AND c.relname IN ('people', 'groups')
			AND l.mode IN ('AccessExclusiveLock', 'ExclusiveLock', 'ShareRowExclusiveLock', 'ShareLock')`
)

// effect is what PostgreSQL does to the existing tables when it runs a file.
type effect struct {
	failed, rewritten, read bool
	locked                  int
}

// The rules claim that a statement rewrites or reads all rows. This checks that PostgreSQL really does.
func TestPostgreSQLDoesWhatTheRulesSay(t *testing.T) {
	t.Parallel()
	costly := []string{"rewrite", "not-null", "unique", "foreign-key", "check"}
	conn := prepare(t)
	for rule, list := range examples {
		for _, e := range list {
			if strings.Contains(e.sql, "no transaction") || strings.Contains(e.sql, "COMMIT") || rule == "syntax" || rule == "enum" {
				continue // can't be observed in one transaction
			}
			t.Run(rule+"/"+e.name, func(t *testing.T) {
				got := effectOf(t, conn, e)
				hurts := got.failed || got.rewritten || got.read
				if e.want == rule && slices.Contains(costly, rule) && !hurts {
					t.Errorf("%s\nis refused, but in PostgreSQL its effect is %+v: want rows rewritten or read, or a failure", e.sql, got)
				}
				if e.want == "" && !mayRead(e) && hurts {
					t.Errorf("%s\nis accepted, but in PostgreSQL its effect is %+v: want no rows rewritten or read", e.sql, got)
				}
				if e.want == "locks" && got.locked != 2 {
					t.Errorf("%s\nlocks %d tables, want both", e.sql, got.locked)
				}
			})
		}
	}
}

// mayRead reports whether a file may read all rows: under a lock that lets others read and write, or because its comment
// allows it.
func mayRead(e example) bool {
	for _, word := range []string{"VALIDATE", "ANALYZE", "-- backfill", "-- unsafe"} {
		if strings.Contains(e.sql, word) {
			return true
		}
	}
	return false
}

// prepare makes a database with the schema before the examples.
func prepare(t *testing.T) *pgx.Conn {
	t.Helper()
	conn := testenv.Connect(t, testenv.NewDatabase(t))
	exec(t, conn, first)
	exec(t, conn, rows)
	return conn
}

// effectOf runs an example in a transaction, and rolls it back.
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
