package sqltrace

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
)

// A statement's text, its parameters and PostgreSQL's messages contain data, so none of them is recorded.
func TestSpansHoldNoPersonalData(t *testing.T) {
	recorder := tracetest.NewSpanRecorder()
	ctx, root := sdktrace.NewTracerProvider(sdktrace.WithSpanProcessor(recorder)).Tracer("").Start(t.Context(), "root")
	for _, err := range []error{
		errors.New("cannot encode 'Pat'"),
		&pgconn.PgError{Code: "23505", Message: "duplicate key of Pat", Detail: "Key (email)=(Pat) already exists."},
	} {
		statement := Tracer{}.TraceQueryStart(ctx, nil, pgx.TraceQueryStartData{SQL: "SELECT 'Pat'", Args: []any{"Pat"}})
		Tracer{}.TraceQueryEnd(statement, nil, pgx.TraceQueryEndData{Err: err})
	}
	root.End()
	spans := recorder.Ended()
	dump := fmt.Sprintf("%+v", tracetest.SpanStubsFromReadOnlySpans(spans))
	if len(spans) != 3 || strings.Contains(dump, "Pat") {
		t.Errorf("there are %d spans, want 3, none of which names Pat: %s", len(spans), dump)
	}
}

func TestNoSpanWithoutATrace(t *testing.T) {
	if ctx := (Tracer{}).TraceQueryStart(t.Context(), nil, pgx.TraceQueryStartData{SQL: "SELECT 1"}); ctx != t.Context() {
		t.Error("a statement without a trace was traced")
	}
}

func TestOperation(t *testing.T) {
	for statement, want := range map[string]string{
		"SELECT password_hash FROM admins":                        "SELECT",
		"\n\t\tinsert INTO admins VALUES ('Pat')":                 "INSERT",
		"\n\tCREATE ROLE tenant_x LOGIN PASSWORD 'SCRAM-SHA-256'": "CREATE ROLE",
		"begin":            "BEGIN",
		"DROP\tDATABASE x": "DROP DATABASE",
		"/* Pat */ SELECT": "SQL",
		"":                 "SQL",
	} {
		if got := operation(statement); got != want {
			t.Errorf("%q is a %s, want %s", statement, got, want)
		}
	}
}
