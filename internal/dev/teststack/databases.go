package teststack

import (
	"context"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"narthex/internal/secrets"
)

// TablesOf returns all rows of all tables of a database.
func TablesOf(t *testing.T, db *pgxpool.Pool) string {
	t.Helper()
	var query, rows string
	Row(t, db, `
		SELECT string_agg(format('SELECT t::text AS r FROM public.%I t', tablename), ' UNION ALL ')
		FROM pg_tables WHERE schemaname = 'public'`, nil, &query)
	Row(t, db, `SELECT string_agg(r, ' ') FROM (`+query+`) all_rows`, nil, &rows)
	return rows
}

// Tenant connects to a church's database as its own role.
func (s *Stack) Tenant(tenantID string) *pgx.Conn {
	s.T.Helper()
	var sealed []byte
	if err := s.Registry.QueryRow(s.T.Context(), `SELECT database_url FROM tenants WHERE id = $1`, tenantID).Scan(&sealed); err != nil {
		s.T.Fatalf("database URL of tenant %s: %v", tenantID, err)
	}
	url, err := s.Keys.Open(sealed, secrets.Place{Table: "registry.tenants", Column: "database_url", Tenant: tenantID})
	if err != nil {
		s.T.Fatal(err)
	}
	conn, err := pgx.Connect(s.T.Context(), string(url))
	if err != nil {
		s.T.Fatalf("connect to tenant %s: %v", tenantID, err)
	}
	s.T.Cleanup(func() { conn.Close(context.Background()) })
	return conn
}

// Row scans one row into the pointers' targets.
func Row(t *testing.T, from interface {
	QueryRow(context.Context, string, ...any) pgx.Row
}, sql string, args []any, into ...any) {
	t.Helper()
	if err := from.QueryRow(t.Context(), sql, args...).Scan(into...); err != nil {
		t.Fatalf("%s: %v", strings.Join(strings.Fields(sql), " "), err)
	}
}
