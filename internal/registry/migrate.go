package registry

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"narthex/internal/redact"
	"narthex/internal/schema"
	"narthex/migrations"
)

const migrateLimit = 10 * time.Minute

// Only the database's owner can do this. For others PostgreSQL only issues a notice.
const closeToPublic = `
	DO $$ BEGIN
		EXECUTE format('REVOKE CONNECT, TEMPORARY ON DATABASE %I FROM PUBLIC', current_database());
	END $$`

// Migrate brings the registry at url to the newest schema, and closes it to all roles but its owner.
// Idempotent; several may run it at once.
func Migrate(ctx context.Context, url string) error {
	config, err := pgx.ParseConfig(url)
	if err != nil {
		return errors.New("the registry's URL is malformed")
	}
	ctx, cancel := context.WithTimeout(ctx, migrateLimit)
	defer cancel()
	err = schema.Up(ctx, config, migrations.Registry, nil)
	if errors.Is(err, schema.ErrDirty) {
		return fmt.Errorf("%w: find out which of that file's changes were made, then set its row in narthex_migrations.versions "+
			"to dirty = false", err)
	}
	if err == nil {
		err = exec(ctx, config, closeToPublic)
	}
	if err != nil {
		return errors.New(redact.Error(err))
	}
	return nil
}

func exec(ctx context.Context, config *pgx.ConnConfig, sql string) error {
	conn, err := pgx.ConnectConfig(ctx, config)
	if err != nil {
		return err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	_, err = conn.Exec(ctx, sql)
	return err
}
