// Package hardening knows what a PostgreSQL server must forbid so that a tenant's role can reach only its
// own database. It only reports what is missing; a superuser makes the changes.
package hardening

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"
)

const (
	selectRole = `
		SELECT quote_ident(rolname), rolsuper, rolcreatedb AND rolcreaterole, pg_has_role(oid, 'pg_read_all_stats', 'USAGE')
		FROM pg_roles WHERE rolname = current_user`

	// Everybody may connect to every database until that right is revoked from PUBLIC.
	selectOpen = `
		SELECT quote_ident(datname) FROM pg_database
		WHERE datname IN ('postgres', 'template1', current_database())
			AND (has_database_privilege('public', oid, 'CONNECT') OR has_database_privilege('public', oid, 'TEMPORARY'))
		ORDER BY datname`
	revoke = `REVOKE CONNECT, TEMPORARY ON DATABASE %s FROM PUBLIC;`
	grant  = `GRANT CONNECT ON DATABASE %s TO %s;`
	// Runs over the fleet slow down for standbys that lag, and for vacuums that prevent wraparound.
	grantStatistics = `GRANT pg_read_all_stats TO %s;`
)

// Statistics is the SQL that lets role see how the server bears what it has to do. A superuser runs it.
func Statistics(role string) string { return fmt.Sprintf(grantStatistics, role) }

// Statements are the SQL that closes a server's common databases to tenants' roles. A superuser runs
// them. role, which is Narthex's own, can still connect to all of them except template1.
func Statements(role string, databases ...string) (sql []string) {
	for _, database := range databases {
		sql = append(sql, fmt.Sprintf(revoke, database))
		if database != "template1" {
			sql = append(sql, fmt.Sprintf(grant, database, role))
		}
	}
	return sql
}

// Missing returns the SQL that a superuser still has to run on db's server. db is a connection as Narthex's
// own role. makesTenants says whether Narthex creates tenants' databases on that server.
func Missing(ctx context.Context, db *pgx.Conn, makesTenants bool) (sql []string, err error) {
	var role string
	var super, creates, sees bool
	if err := db.QueryRow(ctx, selectRole).Scan(&role, &super, &creates, &sees); err != nil {
		return nil, fmt.Errorf("look up role: %w", err)
	}
	rows, _ := db.Query(ctx, selectOpen)
	open, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		return nil, fmt.Errorf("look up privileges: %w", err)
	}
	switch {
	case super:
		role = "narthex"
		sql = append(sql, `CREATE ROLE narthex LOGIN CREATEDB CREATEROLE PASSWORD '…'; -- then connect Narthex as this role, not as a superuser`)
	case makesTenants && !creates:
		sql = append(sql, fmt.Sprintf(`ALTER ROLE %s CREATEDB CREATEROLE;`, role))
	}
	if makesTenants && (super || !sees) {
		sql = append(sql, Statistics(role))
	}
	return append(sql, Statements(role, open...)...), nil
}
