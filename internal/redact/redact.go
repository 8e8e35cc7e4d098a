// Package redact puts errors into words that hold nobody's data. PostgreSQL's messages quote rows, and
// drivers' and network errors quote URLs, users and addresses: none of that may reach a log, a
// workflow's history or a client.
package redact

import (
	"context"
	"errors"
	"net"
	"strings"
	"syscall"

	"github.com/jackc/pgx/v5/pgconn"

	"narthex/internal/sqlstate"
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
	if reported := sqlstate.Words(err); reported != "" {
		return reported
	}
	var connecting *pgconn.ConnectError
	var unknown *net.DNSError
	switch failed := errors.As(err, &connecting); {
	case failed && errors.Is(err, syscall.ECONNREFUSED):
		return "no connection to PostgreSQL: nothing listens at its address"
	case failed && errors.As(err, &unknown):
		return "no connection to PostgreSQL: the name of its host is unknown"
	case failed:
		return "no connection to PostgreSQL"
	case errors.Is(err, context.DeadlineExceeded):
		return "no answer in time"
	case errors.Is(err, context.Canceled):
		return "cancelled"
	}
	return ""
}
