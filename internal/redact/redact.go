// Package redact describes errors without anybody's data. PostgreSQL's messages quote rows, and
// drivers' and network errors quote URLs, users and addresses. None of that may reach a log, a
// workflow's history or a client.
package redact

import (
	"context"
	"errors"
	"net"
	"strings"
	"syscall"

	"github.com/jackc/pgx/v5/pgconn"
	"go.temporal.io/api/serviceerror"
	"google.golang.org/grpc/codes"

	"narthex/internal/sqlstate"
)

// Error describes err by the verb phrases that our own code has prepended ("insert church: …") and the
// kind of error behind them.
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
		return "no connection to PostgreSQL: its host name is unknown"
	case failed:
		return "no connection to PostgreSQL"
	case errors.Is(err, context.DeadlineExceeded):
		return "no answer in time"
	case errors.Is(err, context.Canceled):
		return "cancelled"
	}
	return temporal(err)
}

// temporal describes Temporal's answer. The original message may contain an id or a value.
func temporal(err error) string {
	var answered serviceerror.ServiceError
	if !errors.As(err, &answered) {
		return ""
	}
	if _, ok := errors.AsType[*serviceerror.NamespaceNotFound](err); ok {
		return "Temporal has no such namespace: see TEMPORAL_NAMESPACE"
	}
	switch code := answered.Status().Code(); code {
	case codes.Unavailable:
		return "Temporal does not answer"
	case codes.DeadlineExceeded:
		return "Temporal did not answer in time"
	case codes.Canceled:
		return "cancelled"
	case codes.PermissionDenied, codes.Unauthenticated:
		return "Temporal refused the credentials"
	case codes.ResourceExhausted:
		return "Temporal is overloaded"
	default:
		return "Temporal refused (" + code.String() + ")"
	}
}
