package redact_test

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"go.temporal.io/api/serviceerror"

	"narthex/internal/redact"
)

func TestErrorsHoldNobodysData(t *testing.T) {
	t.Parallel()
	unique := &pgconn.PgError{Code: "23505", ConstraintName: "admins_email_hash_key", Message: "duplicate key", Detail: "Key (email)=(pat@example.org) already exists."}
	_, connecting := pgx.Connect(t.Context(), "postgres://pat:5ecret@127.0.0.1:1/church?connect_timeout=1")
	for want, err := range map[string]error{
		"insert admin: PostgreSQL refused: the value is already taken (23505 on admins_email_hash_key)": fmt.Errorf("insert admin: %w", unique),
		"insert admin: PostgreSQL refused: a value has the wrong form or is too long (22001)":           fmt.Errorf("insert admin: %w", &pgconn.PgError{Code: "22001", Message: "value of pat@example.org too long"}),
		"open registry: no connection to PostgreSQL: nothing listens at its address":                    fmt.Errorf("open registry: %w", connecting),
		"look up email: no answer in time":                                                              fmt.Errorf("look up email: pat@example.org: %w", context.DeadlineExceeded),
		"list signups: Temporal does not answer":                                                        fmt.Errorf("list signups: %w", serviceerror.NewUnavailable("pat@example.org")),
		"list signups: Temporal refused (AlreadyExists)":                                                fmt.Errorf("list signups: %w", serviceerror.NewAlreadyExists("pat@example.org")),
		"list signups: Temporal has no such namespace: see TEMPORAL_NAMESPACE": fmt.Errorf("list signups: %w",
			serviceerror.NewNamespaceNotFound("pat@example.org")),
		"look up email: cancelled": fmt.Errorf("look up email: pat@example.org: %w", context.Canceled),
		"look up email":            fmt.Errorf("look up email: %w", errors.New("no entry for pat@example.org")),
		"the email is taken":       errors.New("the email is taken"),
	} {
		if got := redact.Error(err); got != want {
			t.Errorf("got  %q\nwant %q", got, want)
		}
	}
}
