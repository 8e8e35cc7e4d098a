package postgres

import "github.com/jackc/pgx/v5"

// Distrust prepares a configuration for a database that somebody else controls. That role's and that database's settings don't
// decide how text is encoded.
func Distrust(config *pgx.ConnConfig) {
	config.RuntimeParams["client_encoding"] = "UTF8"
}
