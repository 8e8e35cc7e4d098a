// Package tenantserver makes, fills and removes tenants' databases on a PostgreSQL server. Whatever it
// makes has the id of the signup that asked for it, and it removes nothing that has another signup's id.
// Package tenantdb routes requests.
package tenantserver

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"narthex/internal/ids"
	"narthex/internal/postgres"
	"narthex/internal/schema"
	"narthex/internal/sqltrace"
	"narthex/migrations"
)

var (
	// ErrNotOwned means that the role or database of this name belongs to another signup.
	ErrNotOwned = errors.New("the database belongs to another signup")
	// ErrGone means that the signup has no database (not yet, not any more, half made or half dropped).
	ErrGone = errors.New("the signup has no database")
	// ErrUnknownVersion means that the database says it has a version that the migrations don't have.
	ErrUnknownVersion = errors.New("the schema has a version that this release doesn't know")
	// ErrTooLong means that a change was ended because it had used up its time.
	ErrTooLong = errors.New("the change did not end in time")
	// ErrInUse means that the database still has its own name, so it may be in use.
	ErrInUse = errors.New("the database was not renamed, or has its name again")
)

// Server is a PostgreSQL server that holds tenants' databases. Its role needs CREATEDB and CREATEROLE,
// not superuser. It is safe for concurrent use.
type Server struct {
	pool     *postgres.Pool
	settings *pgxpool.Config // of a pool that isn't opened yet
	base     url.URL         // the admin URL; a tenant's URL differs only in user, password and database

	installation string
	template     atomic.Pointer[string]          // name of the template to copy; nil until there is one
	files        fs.FS                           // the tenant schema's migrations
	templateName func() (name string, err error) // name of the template for these migrations; computed once
}

// Open connects lazily to the server at adminURL (postgres://…). installation distinguishes what is made there
// from what another Narthex makes. Databases are made from the migrations in files.
func Open(ctx context.Context, adminURL, installation string, files fs.FS) (*Server, error) {
	base, err := url.Parse(adminURL)
	if err != nil {
		return nil, errors.New("the tenant server's URL is malformed")
	}
	config, err := pgxpool.ParseConfig(adminURL)
	if err != nil {
		return nil, errors.New("the tenant server's URL is malformed")
	}
	config.ConnConfig.Tracer = sqltrace.Tracer{}
	config.ConnConfig.RuntimeParams["search_path"] = catalogOnly
	s := &Server{base: *base, installation: installation, files: files, settings: config.Copy()}
	s.templateName = sync.OnceValues(func() (string, error) { return templateName(files, base.User.Username()) })
	s.pool, err = postgres.Open(ctx, config)
	if err != nil {
		return nil, fmt.Errorf("open tenant server: %w", err)
	}
	return s, nil
}

// Apart returns the server with its own connections, at most this many, for work that holds them for long. The caller
// closes it.
func (s *Server) Apart(ctx context.Context, connections int) (*Server, error) {
	apart := &Server{base: s.base, installation: s.installation, files: s.files, templateName: s.templateName, settings: s.settings}
	apart.template.Store(s.template.Load())
	config := s.settings.Copy()
	config.MinConns, config.MinIdleConns, config.MaxConns = 0, 0, int32(connections) //nolint:gosec // an operator's small number
	var err error
	apart.pool, err = postgres.Open(ctx, config)
	if err != nil {
		return nil, fmt.Errorf("open tenant server: %w", err)
	}
	return apart, nil
}

// Name returns the server's name, as postgres.ServerName has it.
func (s *Server) Name() string {
	_, host, port, _ := s.Location(Database{})
	return postgres.ServerName(host, port)
}

// SchemaVersion returns the version of the newest schema that the server's databases can have.
func (s *Server) SchemaVersion() int { return migrations.Newest(s.files) }

// Serves returns the oldest schema version whose release works with a database at version.
func (s *Server) Serves(version int) (int, error) { return schema.Serves(s.files, version) }

// catalogOnly is the search_path of Narthex's role: what others have made under the names of PostgreSQL's own functions and
// operators must not run with its rights. Where a church owns the database, Narthex's role reads nothing but pg_catalog. It may
// not act there as the church's role, because what a church has made could return to Narthex's with RESET ROLE.
const catalogOnly = "pg_catalog"

// Ping checks that the server answers.
func (s *Server) Ping(ctx context.Context) error {
	_, err := s.pool.Exec(ctx, `SELECT`)
	return err
}

// Close closes the server's connections.
func (s *Server) Close() { s.pool.Close() }

// Database is the database of one tenant as one signup makes it. The role that owns it has its name.
type Database struct {
	TenantID string
	SignupID string
	Password string // of the role; never logged
}

// Name returns the name of the database and of its role.
func (d Database) Name() string { return ids.DatabaseName(d.TenantID) }

// A role's comment identifies its signup and its installation. The role owns its database, is made before it
// and removed after it, so the comment identifies the database's owner too.
const markerPrefix = "narthex signup "

func (d Database) marker() string { return markerPrefix + d.SignupID }

func (s *Server) marker(d Database) string { return d.marker() + s.installationMark() }

func (s *Server) installationMark() string { return " of " + s.installation }

// Location returns where d is, or will be: a URL with the role's password, host, port and name.
func (s *Server) Location(d Database) (databaseURL, host string, port int, name string) {
	host, portText := s.base.Hostname(), s.base.Port()
	port = 5432
	if n, err := strconv.Atoi(portText); err == nil {
		port = n
	}
	if host == "" { // a socket, which is one of the URL's parameters
		config := s.pool.Config().ConnConfig
		host, port = config.Host, int(config.Port)
	}
	return s.urlOf(d.Name(), d.Password), host, port, d.Name()
}

// urlOf returns the URL of a database for the role that has its name.
func (s *Server) urlOf(name, password string) string {
	u := s.base
	u.User, u.Path = url.UserPassword(name, password), "/"+name
	return u.String()
}

const cleanLimit = 5 * time.Second

// A lock is an advisory lock of the server. A worker that freezes must not hold it forever: PostgreSQL ends an
// idle session, which releases the lock and keeps the frozen worker from continuing.
type lock struct {
	name      string
	idle      string // how long the session that holds it may be idle
	statement string // how long a statement on it may take, or DEFAULT; the wait for the lock doesn't count
}

// A drop waits for a checkpoint, so only its caller limits it.
func tenantLock(tenantID string) lock {
	return lock{name: "tenant " + tenantID, idle: postgres.IdleLimit, statement: "DEFAULT"}
}

const (
	takeLock = `
		SET idle_session_timeout = '%[2]s';
		SELECT pg_advisory_lock(hashtextextended('%[1]s', 0));
		SET statement_timeout = %[3]s`
	giveLockBack = `
		SELECT pg_advisory_unlock(hashtextextended('%[1]s', 0));
		RESET idle_session_timeout; RESET statement_timeout`
)

// lockedTenant runs do on a session that holds the lock of d's tenant.
func (s *Server) lockedTenant(ctx context.Context, d Database, do func(*pgx.Conn) error) error {
	return s.lockedBy(ctx, d, tenantLock(d.TenantID), do)
}

func (s *Server) lockedBy(ctx context.Context, d Database, l lock, do func(*pgx.Conn) error) error {
	if !ids.Valid(d.TenantID) {
		return fmt.Errorf("tenant id %q is not a ULID: %w", d.TenantID, ErrNotOwned)
	}
	return s.locked(ctx, l, do)
}

// locked runs do on a session that holds the lock. Everything that needs the lock runs on that same session, so a
// worker that has lost the lock can do nothing.
func (s *Server) locked(ctx context.Context, l lock, do func(*pgx.Conn) error) error {
	acquired, err := s.pool.Acquire(ctx)
	if err != nil {
		return fmt.Errorf("connect to tenant server: %w", err)
	}
	conn := acquired.Conn()
	defer func() {
		if !release(conn, l) {
			conn.Close(context.WithoutCancel(ctx)) // the pool discards the closed connection, and the server releases its lock
		}
		acquired.Release()
	}()
	if _, err := conn.Exec(ctx, fmt.Sprintf(takeLock, l.name, l.idle, l.statement)); err != nil {
		return fmt.Errorf("lock %s: %w", l.name, err)
	}
	return do(conn)
}

// release releases the lock and reports whether the connection can be reused.
func release(conn *pgx.Conn, l lock) bool {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	results, err := conn.PgConn().Exec(ctx, fmt.Sprintf(giveLockBack, l.name)).ReadAll()
	return err == nil && string(results[0].Rows[0][0]) == "t"
}

// state is what the server has under a tenant's name.
type state struct {
	RoleExists     bool    `db:"role_exists"`
	Marker         *string `db:"marker"`
	DatabaseExists bool    `db:"database_exists"`
	Closed         bool    `db:"closed"` // to connections, until it is completely made
	Schema         *string `db:"schema"`
	HalfDropped    bool    `db:"half_dropped"` // a DROP DATABASE was interrupted; only DROP works on it
}

const selectState = `
	SELECT r.oid IS NOT NULL AS role_exists,
		shobj_description(r.oid, 'pg_authid') AS marker,
		d.oid IS NOT NULL AS database_exists,
		NOT coalesce(d.datallowconn, true) AS closed,
		shobj_description(d.oid, 'pg_database') AS schema,
		coalesce(d.datconnlimit = -2, false) AS half_dropped
	FROM (SELECT $1::name AS name) n
	LEFT JOIN pg_roles r ON r.rolname = n.name
	LEFT JOIN pg_database d ON d.datname = n.name`

func readState(ctx context.Context, conn *pgx.Conn, d Database) (state, error) {
	rows, _ := conn.Query(ctx, selectState, d.Name())
	found, err := pgx.CollectExactlyOneRow(rows, pgx.RowToStructByName[state])
	if err != nil {
		return state{}, fmt.Errorf("look for role and database: %w", err)
	}
	return found, nil
}

// holds reports whether the database has a template's schema, all of it owned by its own role.
func (s state) holds(template string) bool {
	return s.Schema != nil && *s.Schema == schemaMark+template
}

// nothing reports whether there is neither a role nor a database.
func (s state) nothing() bool { return !s.RoleExists && !s.DatabaseExists }

// ownedBy reports whether d's signup has made what was found.
func (s state) ownedBy(d Database) bool { return s.Marker != nil && isOf(d, *s.Marker) }

// standing returns nil if d's database is there and takes connections. Errors: ErrGone, ErrNotOwned.
func (s state) standing(d Database) error {
	switch {
	case s.RoleExists && !s.ownedBy(d):
		return ErrNotOwned
	case !s.DatabaseExists || s.HalfDropped || s.Closed:
		return ErrGone
	}
	return nil
}

// isOf reports whether a marker is of d's signup. Older ones name no installation.
func isOf(d Database, marker string) bool {
	return marker == d.marker() || strings.HasPrefix(marker, d.marker()+" ")
}
