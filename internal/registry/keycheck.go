package registry

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"narthex/internal/secrets"
	"narthex/internal/sqlstate"
)

var (
	// ErrSealKeys means that the registry was written under another seal keyset.
	ErrSealKeys = errors.New("SEAL_KEYSET is not the keyset that the registry was written with, or lacks its key")
	// ErrIndexKeys means that the registry was written under another index keyset.
	ErrIndexKeys = errors.New("INDEX_KEYSET is not the keyset that the registry was written with, or lacks its key")
)

const (
	keyCheck       = "registry" // the row's id, and also the value that is sealed and indexed in it
	insertKeyCheck = `INSERT INTO key_checks (id, sealed, indexed) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING`
	selectKeyCheck = `SELECT sealed, indexed FROM key_checks WHERE id = $1`
)

var keyCheckPlace = secrets.Place{Table: "registry.key_checks", Column: "sealed"}

// CheckKeys checks that the registry was written under these keys. The very first process writes the row to
// check. Errors: ErrSealKeys, ErrIndexKeys, ErrNotMigrated, or why the registry did not answer.
func (r *Registry) CheckKeys(ctx context.Context) error {
	sealed, err := r.keys.Seal([]byte(keyCheck), keyCheckPlace)
	if err != nil {
		return err
	}
	indexes, err := r.keys.EmailIndexes(keyCheck)
	if err != nil {
		return err
	}
	_, err = r.pool.Exec(ctx, insertKeyCheck, keyCheck, sealed, indexes[0])
	if sqlstate.Of(err) == sqlstate.UndefinedTable {
		return ErrNotMigrated
	}
	if err != nil {
		return fmt.Errorf("leave key check: %w", err)
	}
	var indexed string
	if err := r.pool.QueryRow(ctx, selectKeyCheck, keyCheck).Scan(&sealed, &indexed); err != nil {
		return fmt.Errorf("read key check: %w", err)
	}
	if _, err := r.keys.Open(sealed, keyCheckPlace); err != nil {
		return ErrSealKeys
	}
	if !slices.Contains(indexes, indexed) {
		return ErrIndexKeys
	}
	return nil
}
