// Package sqltrace adds SQL statements to the traces of the code that runs them. It records only the kind of a
// statement, never its text or parameters, because they contain personal data and password verifiers.
package sqltrace

import (
	"context"
	"fmt"
	"regexp"
	"strings"

	"github.com/jackc/pgx/v5"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/trace"

	"narthex/internal/redact"
)

// Tracer traces pgx's connections and statements if their context has a trace. Otherwise it does
// nothing.
type Tracer struct{}

var (
	_ pgx.QueryTracer   = Tracer{}
	_ pgx.ConnectTracer = Tracer{}
)

// TraceQueryStart begins a statement's span.
func (Tracer) TraceQueryStart(ctx context.Context, _ *pgx.Conn, data pgx.TraceQueryStartData) context.Context {
	return begin(ctx, data.SQL)
}

// TraceQueryEnd ends it.
func (Tracer) TraceQueryEnd(ctx context.Context, _ *pgx.Conn, data pgx.TraceQueryEndData) {
	end(ctx, data.Err)
}

// TraceConnectStart begins a connection's span.
func (Tracer) TraceConnectStart(ctx context.Context, _ pgx.TraceConnectStartData) context.Context {
	return begin(ctx, "CONNECT")
}

// TraceConnectEnd ends it.
func (Tracer) TraceConnectEnd(ctx context.Context, data pgx.TraceConnectEndData) { end(ctx, data.Err) }

var operationWords = regexp.MustCompile(`(?i)^\s*((?:CREATE|ALTER|DROP)\s+)?[A-Z]+`)

// operation is a statement's first word, or two: SELECT, CREATE ROLE.
func operation(statement string) string {
	words := strings.Fields(strings.ToUpper(operationWords.FindString(statement)))
	if len(words) == 0 {
		return "SQL"
	}
	return strings.Join(words, " ")
}

type spanKey struct{}

func begin(ctx context.Context, statement string) context.Context {
	parent := trace.SpanFromContext(ctx)
	if !parent.IsRecording() {
		return ctx
	}
	operation := operation(statement)
	ctx, span := parent.TracerProvider().Tracer("narthex/sql").Start(ctx, operation, trace.WithSpanKind(trace.SpanKindClient),
		trace.WithAttributes(attribute.String("db.system.name", "postgresql"), attribute.String("db.operation.name", operation)))
	return context.WithValue(ctx, spanKey{}, span)
}

// end ends only the span that begin began.
func end(ctx context.Context, err error) {
	span, ok := ctx.Value(spanKey{}).(trace.Span)
	if !ok {
		return
	}
	if err != nil {
		span.SetStatus(codes.Error, redact.Error(fmt.Errorf("SQL: %w", err)))
	}
	span.End()
}
