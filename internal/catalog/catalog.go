// Package catalog reads a database's schema as a set of facts, and describes how two schemas differ. The facts leave out
// what must not count as a difference: the order of columns, comments, the name of the owning role, PostgreSQL's version.
// The package changes nothing, and knows no table by name.
package catalog

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"
)

// Settings are the session settings that Read depends on, by name. The search_path keeps it from running a church role's
// objects that have the names of PostgreSQL's own.
var Settings = map[string]string{
	"search_path": "pg_catalog", "jit": "off", // JIT would take longer than the query
	"quote_all_identifiers": "off", "timezone": "UTC", "datestyle": "ISO", "intervalstyle": "postgres", "extra_float_digits": "1",
	"lock_timeout": "2s", "statement_timeout": "10s",
}

// Catalog is a database's schema. Two with the same fingerprint, read on one server, are equal.
type Catalog struct {
	Fingerprint string
	Facts       []Fact // none if the fingerprint was known
}

// Fact is a property of an object.
type Fact struct {
	Kind     string `json:"kind"`    // of the object: "table", "column"
	Name     string `json:"name"`    // of the object, with its schema unless that is public: "branches.name"
	PartOf   string `json:"part_of"` // the name of the object that contains it, or ""
	Property string `json:"property"`
	Value    string `json:"value"`
}

// Read reads the catalog of db's database with one query. It expects the owner to be the role with the database's name. If the
// fingerprint equals known, the facts are not sent. db's session must have Settings.
func Read(ctx context.Context, db *pgx.Conn, known string) (Catalog, error) {
	var c Catalog
	if err := db.QueryRow(ctx, selectCatalog, known).Scan(&c.Fingerprint, &c.Facts); err != nil {
		return Catalog{}, fmt.Errorf("read catalog: %w", err)
	}
	return c, nil
}
