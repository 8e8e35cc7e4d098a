package main

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"sync"
	"time"

	"github.com/golang-migrate/migrate/v4"
	_ "github.com/golang-migrate/migrate/v4/database/pgx/v5" // registers pgx5://
	"github.com/golang-migrate/migrate/v4/source/iofs"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"golang.org/x/crypto/bcrypt"

	"narthex/internal/ids"
	"narthex/internal/registry"
	"narthex/migrations"
)

const passwordCost = 10 // bcrypt, as Narthex hashes

// plain is the baseline: the program that one would write without Temporal. It does one thing after the
// other in one process. If it fails on the way, what it has made stays.
type plain struct {
	server url.URL // where the databases are made
	pool   *pgxpool.Pool
	rows   *pgxpool.Pool // of its registry

	mu   sync.Mutex
	made []string
}

// newPlain makes the baseline's registry on the same server, with the same schema as Narthex's.
func newPlain(ctx context.Context, serverURL string) (*plain, error) {
	server, err := url.Parse(serverURL)
	if err != nil {
		return nil, errors.New("the server's URL is malformed")
	}
	p := &plain{server: *server}
	p.pool, err = pgxpool.New(ctx, serverURL)
	if err != nil {
		return nil, err
	}
	if _, err := p.pool.Exec(ctx, `CREATE DATABASE plain_registry`); err != nil {
		return nil, fmt.Errorf("create the baseline's registry: %w", err)
	}
	at := p.url("postgres", "plain_registry")
	if err := registry.Migrate(ctx, at); err != nil {
		return nil, err
	}
	p.rows, err = pgxpool.New(ctx, at)
	return p, err
}

func (p *plain) close() {
	p.pool.Close()
	if p.rows != nil {
		p.rows.Close()
	}
}

func (p *plain) url(scheme, database string) string {
	at := p.server
	at.Scheme, at.Path = scheme, "/"+database
	return at.String()
}

type plainChurch struct{ id, adminID, database, email, hash string }

// signUp signs a church up.
func (p *plain) signUp(ctx context.Context) error {
	hash, err := bcrypt.GenerateFromPassword([]byte(password), passwordCost)
	if err != nil {
		return err
	}
	id := ids.New()
	c := plainChurch{id: id, adminID: ids.New(), database: "plain_" + id, email: id + "@example.org", hash: string(hash)}
	if _, err := p.pool.Exec(ctx, `CREATE DATABASE `+c.database); err != nil {
		return fmt.Errorf("create database: %w", err)
	}
	p.mu.Lock()
	p.made = append(p.made, c.database)
	p.mu.Unlock()
	if err := migrateUp(p.url("pgx5", c.database)); err != nil {
		return fmt.Errorf("migrate: %w", err)
	}
	if err := p.enter(ctx, c); err != nil {
		return fmt.Errorf("add to registry: %w", err)
	}
	conn, err := pgx.Connect(ctx, p.url("postgres", c.database))
	if err != nil {
		return err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	_, err = conn.Exec(ctx, `INSERT INTO admins (id, email, encrypted_email, email_hash, password_hash, first_name, last_name, role)
		VALUES ($1, $2, $2, $3, $4, 'Pat', 'Muster', 'PRIMARY')`, c.adminID, []byte(c.email), c.email, c.hash)
	return err
}

func migrateUp(at string) error {
	source, err := iofs.New(migrations.Tenant, ".")
	if err != nil {
		return err
	}
	m, err := migrate.NewWithSourceInstance("embedded", source, at)
	if err != nil {
		return err
	}
	return errors.Join(m.Up(), func() error { ofSource, ofDatabase := m.Close(); return errors.Join(ofSource, ofDatabase) }())
}

// enter adds the registry's rows.
func (p *plain) enter(ctx context.Context, c plainChurch) error {
	sealed := []byte(c.email) // not sealed: the cost would be negligible
	for _, row := range []struct {
		sql       string
		arguments []any
	}{
		{`INSERT INTO churches (id, name, email, email_hash, subscription_status, trial_ends_at, signup_id)
			VALUES ($1, 'Grace Chapel', $2, $3, 'trial', $4, $1)`, []any{c.id, sealed, c.email, time.Now().AddDate(0, 0, 14)}},
		{`INSERT INTO tenants (id, church_id, name, email, database_url, database_host, database_port, database_name,
				subscription_status, subscription_plan, status, schema_version, signup_id)
			VALUES ($1, $1, 'Grace Chapel', $2, $2, 'localhost', 5432, $3, 'trial', 'starter', 'active', 1, $1)`, []any{c.id, sealed, c.database}},
		{`INSERT INTO admins (id, tenant_id, email, email_hash, password_hash, first_name, last_name, role, signup_id)
			VALUES ($1, $2, $3, $4, $5, 'Pat', 'Muster', 'PRIMARY', $2)`, []any{c.adminID, c.id, sealed, c.email, c.hash}},
		{`INSERT INTO admin_email_index (id, email_hash, email, tenant_id, admin_id, signup_id)
			VALUES ($1, $2, $3, $4, $1, $4)`, []any{c.adminID, c.email, sealed, c.id}},
	} {
		if _, err := p.rows.Exec(ctx, row.sql, row.arguments...); err != nil {
			return err
		}
	}
	return nil
}

// forget drops the databases that were made, so that the server's tenants are Narthex's.
func (p *plain) forget(ctx context.Context) error {
	for _, database := range p.made {
		if _, err := p.pool.Exec(ctx, `DROP DATABASE `+database); err != nil {
			return err
		}
	}
	p.made = nil
	return nil
}
