package tenantserver

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io/fs"
	"strings"

	"github.com/jackc/pgx/v5"

	"narthex/internal/postgres"
	"narthex/internal/schema"
	"narthex/migrations"
)

// A template has the newest tenant schema, so that a tenant's database can be copied from it. Its name contains
// the schema's version and a hash of the migrations and of the role that makes it, so an existing template is
// the right one. Its objects belong to a role with the same name that owns nothing else, so that in a copy they
// can all be given to the tenant's role at once.
const (
	templateRole   = `CREATE ROLE %[1]s NOLOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE; GRANT %[1]s TO CURRENT_USER`
	createTemplate = `CREATE DATABASE %[1]s OWNER %[1]s TEMPLATE template0 ENCODING 'UTF8' ALLOW_CONNECTIONS false`
	openTemplate   = `REVOKE ALL ON DATABASE %[1]s FROM PUBLIC; ALTER DATABASE %[1]s ALLOW_CONNECTIONS true`
	// The comment is written last: if it exists, the template is complete.
	closeTemplate = `
		ALTER DATABASE %[1]s ALLOW_CONNECTIONS false;
		ALTER DATABASE %[1]s IS_TEMPLATE true;
		ALTER DATABASE %[1]s OWNER TO CURRENT_USER;
		COMMENT ON DATABASE %[1]s IS '` + templateMarker + `'`
	templatePrefix = "tenant_template_v"
	templateMarker = `narthex template`
	selectTemplate = `
		SELECT coalesce(bool_or(datistemplate AND NOT datallowconn AND datdba = (SELECT oid FROM pg_roles WHERE rolname = current_user)
			AND shobj_description(oid, 'pg_database') = '` + templateMarker + `'), false) FROM pg_database WHERE datname = $1`
	selectTemplateRest = `
		SELECT EXISTS (SELECT FROM pg_database WHERE datname = $1 AND datistemplate), EXISTS (SELECT FROM pg_database WHERE datname = $1),
			EXISTS (SELECT FROM pg_roles WHERE rolname = $1)`
	// Templates of this role that are not newer than the one in use, without that one.
	selectOldTemplates = `
		SELECT datname FROM pg_database WHERE datdba = (SELECT oid FROM pg_roles WHERE rolname = current_user) AND datname <> $1
		AND shobj_description(oid, 'pg_database') = '` + templateMarker + `'
		AND substring(datname FROM '^` + templatePrefix + `(\d+)_')::int <= $2`
	endTemplate = `ALTER DATABASE %s IS_TEMPLATE false`

	copyDatabase = `CREATE DATABASE %[1]s OWNER %[1]s TEMPLATE %[2]s STRATEGY wal_log ALLOW_CONNECTIONS false`
)

// templateName returns the name of the template that role makes from the migrations.
func templateName(files fs.FS, role string) (string, error) {
	hash := sha256.New()
	fmt.Fprintf(hash, "%d:%s", len(role), role)
	names, err := fs.Glob(files, "*.up.sql")
	if err != nil {
		return "", fmt.Errorf("list migrations: %w", err)
	}
	for _, name := range names {
		content, err := fs.ReadFile(files, name)
		if err != nil {
			return "", fmt.Errorf("read migration: %w", err)
		}
		fmt.Fprintf(hash, "%s:%d:%s", name, len(content), content)
	}
	return fmt.Sprintf(templatePrefix+"%d_%s", migrations.Newest(files), hex.EncodeToString(hash.Sum(nil)[:6])), nil
}

// templateLock is held while the template is made. Its session is idle while another session fills the template.
var templateLock = lock{name: "tenant template", idle: "1min", statement: "'5min'"}

// HasTemplate reports whether the template exists. It waits for no lock.
func (s *Server) HasTemplate(ctx context.Context) (bool, error) {
	name, err := s.templateName()
	if err != nil {
		return false, err
	}
	return isTemplate(ctx, s.pool, name)
}

// EnsureTemplate makes the template, unless it exists, and lets Create copy from it. If several processes try, one makes
// it. Templates of older schemas are dropped. Idempotent.
func (s *Server) EnsureTemplate(ctx context.Context) error {
	name, err := s.templateName()
	if err != nil {
		return err
	}
	return s.locked(ctx, templateLock, func(conn *pgx.Conn) error {
		ready, err := isTemplate(ctx, conn, name)
		if err != nil {
			return err
		}
		if !ready {
			if err := s.makeTemplate(ctx, conn, name); err != nil {
				return err
			}
		}
		s.template.Store(&name)
		return s.dropOldTemplates(ctx, conn, name)
	})
}

func isTemplate(ctx context.Context, db postgres.DB, name string) (bool, error) {
	var ready bool
	if err := db.QueryRow(ctx, selectTemplate, name).Scan(&ready); err != nil {
		return false, fmt.Errorf("look for template: %w", err)
	}
	return ready, nil
}

// makeTemplate makes the template from scratch, whatever an interrupted process has left behind.
func (s *Server) makeTemplate(ctx context.Context, conn *pgx.Conn, name string) error {
	if err := dropTemplate(ctx, conn, name); err != nil {
		return err
	}
	for _, statement := range []string{templateRole, createTemplate, openTemplate} {
		if _, err := conn.Exec(ctx, fmt.Sprintf(statement, name)); err != nil {
			return fmt.Errorf("create template: %w", err)
		}
	}
	config := conn.Config().Copy()
	config.Database, config.RuntimeParams["role"] = name, name
	if err := schema.Up(ctx, config, s.files, nil); err != nil {
		return fmt.Errorf("fill template: %w", err)
	}
	if _, err := conn.Exec(ctx, fmt.Sprintf(closeTemplate, name)); err != nil {
		return fmt.Errorf("close template: %w", err)
	}
	return nil
}

func dropTemplate(ctx context.Context, conn *pgx.Conn, name string) error {
	var template, database, role bool
	if err := conn.QueryRow(ctx, selectTemplateRest, name).Scan(&template, &database, &role); err != nil {
		return fmt.Errorf("look for template: %w", err)
	}
	for _, step := range []struct {
		due       bool
		statement string
	}{{template, endTemplate}, {database, dropDatabase}, {role, dropRole}} {
		if !step.due {
			continue
		}
		if _, err := conn.Exec(ctx, fmt.Sprintf(step.statement, name)); err != nil {
			return fmt.Errorf("drop template: %w", err)
		}
	}
	return nil
}

// dropOldTemplates keeps templates of newer schemas: a release that was rolled back may return.
func (s *Server) dropOldTemplates(ctx context.Context, conn *pgx.Conn, name string) error {
	rows, _ := conn.Query(ctx, selectOldTemplates, name, s.SchemaVersion())
	old, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		return fmt.Errorf("list templates: %w", err)
	}
	for _, o := range old {
		if err := dropTemplate(ctx, conn, o); err != nil {
			return err
		}
	}
	return nil
}

// makeDatabase makes d's database as a copy of the template or, if there is none, empty.
func (s *Server) makeDatabase(ctx context.Context, conn *pgx.Conn, d Database) (Source, error) {
	statement, source := fmt.Sprintf(createDatabase, d.Name()), FromNothing
	if template := s.Template(); template != "" {
		ready, err := isTemplate(ctx, conn, template)
		if err != nil {
			return "", err
		}
		if ready {
			statement, source = fmt.Sprintf(copyDatabase, d.Name(), template), FromTemplate
		}
	}
	if _, err := conn.Exec(ctx, statement); err != nil {
		return "", fmt.Errorf("create database: %w", err)
	}
	return source, nil
}

const (
	// The owner of the version table owns everything: in a copy, the template's role until adopt gives it away.
	selectMaker = `
		SELECT coalesce((SELECT pg_get_userbyid(c.relowner) FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
			WHERE n.nspname = 'narthex_migrations' AND c.relname = 'versions'), ''),
			coalesce((SELECT shobj_description(datdba, 'pg_authid') FROM pg_database WHERE datname = current_database()), '')`
	giveAway = `REASSIGN OWNED BY %s TO %s`
)

// adopt gives the objects in a copy of the template to the role with the copy's name, whose marker must be ours. It reports
// whether the database has a version of the schema. Idempotent. Errors: ErrNotOwned.
func (s *Server) adopt(ctx context.Context, name string, ours func(marker string) bool) (filled bool, err error) {
	conn, err := s.connect(ctx, name, nil)
	if err != nil {
		return false, err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	var maker, marker string
	if err := conn.QueryRow(ctx, selectMaker).Scan(&maker, &marker); err != nil {
		return false, fmt.Errorf("check the copy's owner: %w", err)
	}
	if !ours(marker) {
		return false, ErrNotOwned
	}
	if strings.HasPrefix(maker, templatePrefix) {
		if _, err := conn.Exec(ctx, fmt.Sprintf(giveAway, pgx.Identifier{maker}.Sanitize(), name)); err != nil {
			return false, fmt.Errorf("give the copy to its role: %w", err)
		}
	}
	return maker != "", nil
}
