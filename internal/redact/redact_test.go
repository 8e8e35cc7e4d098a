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

func TestErrorsHoldNoPersonalData(t *testing.T) {
	t.Parallel()
	unique := &pgconn.PgError{
		Code: "23505", ConstraintName: "admins_email_hash_key", Message: "duplicate key",
		Detail: "Key (email)=(pat@example.org) already exists.",
	}
	tooLong := &pgconn.PgError{Code: "22001", Message: "value of pat@example.org too long"}
	_, connecting := pgx.Connect(t.Context(), "postgres://pat:5ecret@127.0.0.1:1/church?connect_timeout=1")
	for _, c := range []struct {
		doing string
		err   error
		want  string
	}{
		{"insert admin", unique, ": PostgreSQL refused: the value is already taken (23505 on admins_email_hash_key)"},
		{"insert admin", tooLong, ": PostgreSQL refused: a value has the wrong form or is too long (22001)"},
		{"open registry", connecting, ": no connection to PostgreSQL: nothing listens at its address"},
		{"look up email", fmt.Errorf("pat@example.org: %w", context.DeadlineExceeded), ": no answer in time"},
		{"look up email", fmt.Errorf("pat@example.org: %w", context.Canceled), ": cancelled"},
		{"look up email", errors.New("no entry for pat@example.org"), ""},
		{"list signups", serviceerror.NewUnavailable("pat@example.org"), ": Temporal does not answer"},
		{"list signups", serviceerror.NewAlreadyExists("pat@example.org"), ": Temporal refused (AlreadyExists)"},
		{"list signups", serviceerror.NewNamespaceNotFound("pat@example.org"),
			": Temporal has no such namespace: see TEMPORAL_NAMESPACE"},
	} {
		if got, want := redact.Error(fmt.Errorf("%s: %w", c.doing, c.err)), c.doing+c.want; got != want {
			t.Errorf("got  %q\nwant %q", got, want)
		}
	}
	if got := redact.Error(errors.New("the email is taken")); got != "the email is taken" {
		t.Errorf("got  %q\nwant only the sentence", got)
	}
}
