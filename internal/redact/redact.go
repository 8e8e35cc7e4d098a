// Package redact puts errors into words that hold nobody's data. PostgreSQL's messages quote rows, and
// drivers' and network errors quote URLs, users and addresses: none of that may reach a log, a
// workflow's history or a client.
package redact

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"
)

// Error describes err: the verb phrases that our own code put in front ("insert church: …") and the
// kind of what is behind them.
func Error(err error) string {
	doing, _, wrapped := strings.Cut(err.Error(), ": ")
	if kind := kindOf(err); kind != "" {
		return doing + ": " + kind
	}
	if wrapped {
		return doing
	}
	return err.Error()
}

func kindOf(err error) string {
	var pgErr *pgconn.PgError
	var connectErr *pgconn.ConnectError
	switch {
	case errors.As(err, &pgErr) && pgErr.ConstraintName != "":
		return fmt.Sprintf("PostgreSQL error %s on %s", pgErr.Code, pgErr.ConstraintName)
	case errors.As(err, &pgErr):
		return "PostgreSQL error " + pgErr.Code
	case errors.As(err, &connectErr):
		return "no connection to PostgreSQL"
	case errors.Is(err, context.DeadlineExceeded):
		return "no answer in time"
	case errors.Is(err, context.Canceled):
		return "cancelled"
	}
	return ""
}
