package migrations_test

import (
	"errors"
	"fmt"
	"io/fs"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"narthex/internal/schema"
	"narthex/internal/sqlstate"
	"narthex/migrations"
)

// On a church with rows in every table, each migration is applied, reverted and applied again. Reverting leaves the tables
// as they were before, and keeps the rows. A step outside a transaction can be repeated after an interruption.
func TestTenantMigrationsOnRows(t *testing.T) {
	t.Parallel()
	for name, files := range map[string]fs.FS{"tenant": migrations.Tenant, "testdata/planted_on": example(t)} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			db := open(t)
			migrate(t, db, first(t, files), schema.Up)
			fill(t, db, 1)
			stepBackAndForth(t, db, files, 1)
			for version := 2; version <= migrations.Newest(files); version++ {
				before := tablesOf(t, db)
				take(t, db, files, version-1, version)
				fill(t, db, version)
				back := stepBackAndForth(t, db, files, version)
				compare(t, fmt.Sprintf("down from %d", version), back, before)
			}
		})
	}
}

// stepBackAndForth reverts the newest migration and applies it again, and returns the tables in between.
func stepBackAndForth(t *testing.T, db *pgx.Conn, files fs.FS, version int) (back []string) {
	t.Helper()
	tables, rows := tablesOf(t, db), rowsOf(t, db)
	take(t, db, files, version, version-1)
	back = tablesOf(t, db)
	for table, want := range rows {
		if got, kept := rowsOf(t, db)[table]; kept && got != want {
			t.Errorf("down from %d leaves %d rows in %s, want %d", version, got, table, want)
		}
	}
	take(t, db, files, version-1, version)
	compare(t, fmt.Sprintf("up to %d again", version), tablesOf(t, db), tables)
	fill(t, db, version+1000)
	return back
}

// compare reports what a step left that should not exist, and what should exist but doesn't.
func compare(t *testing.T, step string, got, want []string) {
	t.Helper()
	for _, line := range got {
		if !slices.Contains(want, line) {
			t.Errorf("%s leaves what did not exist before: %s", step, line)
		}
	}
	for _, line := range want {
		if !slices.Contains(got, line) {
			t.Errorf("%s removes what existed before: %s", step, line)
		}
	}
}

func take(t *testing.T, db *pgx.Conn, files fs.FS, from, to int) {
	t.Helper()
	steps, err := schema.Steps(files, from, to)
	if err != nil {
		t.Fatal(err)
	}
	for _, step := range steps {
		if err := schema.Take(t.Context(), db, step); err != nil {
			t.Fatal(err)
		}
		t.Log(step.File)
		if !step.InTransaction {
			repeat(t, db, step)
		}
	}
}

const (
	markDirty = `UPDATE narthex_migrations.versions SET dirty = true`
	halfBuild = `UPDATE pg_index SET indisvalid = false FROM pg_class WHERE oid = indexrelid AND $1 ~ ('\m' || relname || '\M')`
)

// repeat takes a step outside a transaction twice more: after an interruption at its end, and after one that left the
// indexes that it names invalid.
func repeat(t *testing.T, db *pgx.Conn, step schema.Step) {
	t.Helper()
	want := tablesOf(t, db)
	for _, half := range []bool{false, true} {
		_, err := db.Exec(t.Context(), markDirty)
		if err == nil && half {
			_, err = db.Exec(t.Context(), halfBuild, step.SQL)
		}
		if err != nil {
			t.Fatal(err)
		}
		if err := schema.Take(t.Context(), db, step); err != nil {
			t.Fatalf("repeated after an interruption (an index was half built: %t): %v", half, err)
		}
		compare(t, step.File+", repeated,", tablesOf(t, db), want)
		if got, err := schema.Version(t.Context(), db); err != nil || got != step.To {
			t.Errorf("%s, repeated, leaves version %d (%v), want %d", step.File, got, err, step.To)
		}
	}
}

const (
	describeTables = `
		SELECT coalesce(array_agg(line ORDER BY line), '{}') FROM (
			SELECT concat_ws(' ', attrelid::regclass, attname, format_type(atttypid, atttypmod), CASE WHEN attnotnull THEN 'NOT NULL' END,
				attidentity, attgenerated, pg_get_expr(adbin, adrelid))
			FROM pg_attribute LEFT JOIN pg_attrdef ON adrelid = attrelid AND adnum = attnum
			WHERE attrelid IN (SELECT oid FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relkind = 'r')
				AND attnum > 0 AND NOT attisdropped
			UNION ALL SELECT concat_ws(' ', conrelid::regclass, conname, pg_get_constraintdef(oid)) FROM pg_constraint
			WHERE connamespace = 'public'::regnamespace
			UNION ALL SELECT concat_ws(' ', pg_get_indexdef(indexrelid), indisvalid) FROM pg_index
			WHERE indexrelid IN (SELECT oid FROM pg_class WHERE relnamespace = 'public'::regnamespace)
			UNION ALL SELECT pg_get_triggerdef(oid) FROM pg_trigger WHERE NOT tgisinternal
			UNION ALL SELECT pg_get_functiondef(oid) FROM pg_proc WHERE pronamespace = 'public'::regnamespace
		) AS t (line)`
	selectTables  = `SELECT relname::text FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relkind = 'r' ORDER BY 1`
	selectColumns = `
		SELECT attname::text AS name, format_type(atttypid, atttypmod) AS type, typtype = 'e' AS is_enum, NOT attnotnull AS nullable,
			coalesce((SELECT array_agg(pg_get_expr(conbin, conrelid)) FROM pg_constraint
				WHERE conrelid = attrelid AND contype = 'c' AND conkey = ARRAY[attnum]), '{}') AS checks
		FROM pg_attribute JOIN pg_type ON pg_type.oid = atttypid
		WHERE attrelid = $1::regclass AND attnum > 0 AND NOT attisdropped AND attidentity = '' AND attgenerated = '' ORDER BY attnum`
)

func tablesOf(t *testing.T, db *pgx.Conn) (lines []string) {
	t.Helper()
	if err := db.QueryRow(t.Context(), describeTables).Scan(&lines); err != nil {
		t.Fatal(err)
	}
	return lines
}

func tableNames(t *testing.T, db *pgx.Conn) []string {
	t.Helper()
	rows, _ := db.Query(t.Context(), selectTables)
	names, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		t.Fatal(err)
	}
	return names
}

func rowsOf(t *testing.T, db *pgx.Conn) map[string]int {
	t.Helper()
	rows := map[string]int{}
	for _, name := range tableNames(t, db) {
		rows[name] = count(t, db, `SELECT count(*) FROM `+pgx.Identifier{name}.Sanitize())
	}
	return rows
}

// fill inserts a row into every table, those that others refer to first. All texts are the same, so that each foreign key
// finds its row.
func fill(t *testing.T, db *pgx.Conn, k int) {
	t.Helper()
	waiting := tableNames(t, db)
	for len(waiting) > 0 {
		var again []string
		for _, name := range waiting {
			err := insertRow(t, db, name, k)
			if sqlstate.Of(err) == foreignKeyViolation {
				again = append(again, name)
			} else if err != nil {
				t.Fatalf("a row for %s: %v", name, err)
			}
		}
		if len(again) == len(waiting) {
			t.Fatalf("no order of %v satisfies their foreign keys", again)
		}
		waiting = again
	}
	for name, n := range rowsOf(t, db) {
		if n == 0 {
			t.Fatalf("%s has no rows", name)
		}
	}
}

const foreignKeyViolation = "23503"

type tableColumn struct {
	Name, Type string
	IsEnum     bool
	Nullable   bool
	Checks     []string
}

func insertRow(t *testing.T, db *pgx.Conn, table string, k int) error {
	t.Helper()
	rows, _ := db.Query(t.Context(), selectColumns, pgx.Identifier{table}.Sanitize())
	columns, err := pgx.CollectRows(rows, pgx.RowToStructByName[tableColumn])
	if err != nil {
		t.Fatal(err)
	}
	var names, values []string
	for _, column := range columns {
		names = append(names, pgx.Identifier{column.Name}.Sanitize())
		values = append(values, value(t, db, table, column, k))
	}
	_, err = db.Exec(t.Context(), fmt.Sprintf(`INSERT INTO %s (%s) VALUES (%s) ON CONFLICT DO NOTHING`,
		pgx.Identifier{table}.Sanitize(), strings.Join(names, ", "), strings.Join(values, ", ")))
	return err
}

var constants = regexp.MustCompile(`'(?:[^']|'')*'|\b\d+\b`)

// value returns the SQL of a column's value: the first that the checks accept among one that depends on k, those that the
// checks name, and NULL.
func value(t *testing.T, db *pgx.Conn, table string, column tableColumn, k int) string {
	t.Helper()
	var candidates []string
	for _, check := range column.Checks {
		candidates = append(candidates, constants.FindAllString(check, -1)...)
	}
	if n := len(candidates); n > 0 { // a new value each time, because it may have to be unique
		candidates = append(candidates[k%n:], candidates[:k%n]...)
	}
	candidates = slices.Insert(candidates, 0, plainValue(t, table, column, k))
	if column.Nullable {
		candidates = append(candidates, "NULL")
	}
	for _, candidate := range candidates {
		if passes(t, db, column, candidate) {
			return candidate
		}
	}
	t.Fatalf("no value of %v passes the checks %v of %s.%s", candidates, column.Checks, table, column.Name)
	return ""
}

func passes(t *testing.T, db *pgx.Conn, column tableColumn, candidate string) (ok bool) {
	t.Helper()
	for _, check := range column.Checks {
		query := fmt.Sprintf(`SELECT coalesce((%s), true) FROM (SELECT (%s)::%s AS %s) AS row`,
			check, candidate, column.Type, pgx.Identifier{column.Name}.Sanitize())
		err := db.QueryRow(t.Context(), query).Scan(&ok)
		if refused := new(pgconn.PgError); err != nil && !errors.As(err, &refused) {
			t.Fatal(err)
		}
		if err != nil || !ok {
			return false
		}
	}
	return true
}

// plainValue returns the SQL of a value, which depends on k unless the type has only few values.
func plainValue(t *testing.T, table string, column tableColumn, k int) string {
	t.Helper()
	name, _, _ := strings.Cut(column.Type, "(")
	switch {
	case strings.HasSuffix(column.Type, "[]"):
		return `'{}'`
	case column.IsEnum:
		return fmt.Sprintf(`enum_first(NULL::%s)`, column.Type)
	}
	switch name {
	case "text", "character varying":
		return fmt.Sprintf(`'row-%d'`, k)
	case "bytea":
		return fmt.Sprintf(`'row-%d'::bytea`, k)
	case "smallint", "integer", "bigint", "numeric", "double precision", "real":
		return fmt.Sprint(k)
	case "boolean":
		return `true`
	case "jsonb", "json":
		return `'{}'`
	case "date":
		return fmt.Sprintf(`date '2026-01-01' + %d`, k)
	case "timestamp with time zone":
		return fmt.Sprintf(`timestamptz '2026-01-01 12:00Z' + interval '1 hour' * %d`, k)
	case "uuid":
		return fmt.Sprintf(`md5('%d')::uuid`, k)
	}
	t.Fatalf("plainValue knows no value for the type %s of %s.%s", column.Type, table, column.Name)
	return ""
}
