// Package catalog reads what a database's schema is, as facts, and says in words how one differs from another. What must
// not make a difference isn't among the facts: the order of columns, comments, the name of the role that owns all,
// PostgreSQL's version. It changes nothing, and knows no table by name.
package catalog

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"
)

// Settings are those of a session, by name, that Read depends on. The search_path keeps it from running what a church's
// role has made under a name of PostgreSQL's own.
var Settings = map[string]string{
	"search_path": "pg_catalog", "jit": "off", // which would take longer than the query
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
	Name     string `json:"name"`    // of the object, with its schema's unless that is public: "branches.name"
	PartOf   string `json:"part_of"` // the name of the object that it comes and goes with, or ""
	Property string `json:"property"`
	Value    string `json:"value"`
}

// Read reads the catalog of the database that db is connected to, with one query. Its role is the one of the same name.
// The facts of a catalog whose fingerprint is known are not sent. db's session must have Settings.
func Read(ctx context.Context, db *pgx.Conn, known string) (Catalog, error) {
	var c Catalog
	if err := db.QueryRow(ctx, selectCatalog, known).Scan(&c.Fingerprint, &c.Facts); err != nil {
		return Catalog{}, fmt.Errorf("read catalog: %w", err)
	}
	return c, nil
}
