package telemetry

import (
	"context"
	"io"
	"log/slog"
	"os"

	"go.opentelemetry.io/otel/trace"
	"golang.org/x/term"

	"narthex/internal/config"
)

// NewLogger returns a logger. Lines that are logged with a context (InfoContext and the like) have the ids of the
// context's request and trace.
func NewLogger(to io.Writer, c config.Log) *slog.Logger {
	options := &slog.HandlerOptions{Level: c.LogLevel, ReplaceAttr: oneName}
	if inText(to, c.LogFormat) {
		return slog.New(logHandler{slog.NewTextHandler(to, options)})
	}
	return slog.New(logHandler{slog.NewJSONHandler(to, options)})
}

func inText(to io.Writer, format config.LogFormat) bool {
	switch format {
	case config.LogText:
		return true
	case config.LogJSON:
		return false
	}
	file, ok := to.(*os.File)
	return ok && term.IsTerminal(int(file.Fd()))
}

// Temporal's SDK and its tracing spell these names differently.
var otherNames = map[string]string{"WorkflowID": "workflowId", "RunID": "runId", "TraceID": "traceId", "SpanID": "spanId"}

func oneName(groups []string, a slog.Attr) slog.Attr {
	if name, ok := otherNames[a.Key]; ok && len(groups) == 0 {
		a.Key = name
	}
	return a
}

type requestKey struct{}

// WithRequestID returns a context for the request with this id.
func WithRequestID(ctx context.Context, id string) context.Context {
	return context.WithValue(ctx, requestKey{}, id)
}

type logHandler struct{ slog.Handler }

func (h logHandler) Handle(ctx context.Context, record slog.Record) error {
	if id, ok := ctx.Value(requestKey{}).(string); ok {
		record.AddAttrs(slog.String("requestId", id))
	}
	if span := trace.SpanContextFromContext(ctx); span.IsValid() {
		record.AddAttrs(slog.String("traceId", span.TraceID().String()))
	}
	return h.Handler.Handle(ctx, record)
}

func (h logHandler) WithAttrs(attrs []slog.Attr) slog.Handler {
	return logHandler{h.Handler.WithAttrs(attrs)}
}

func (h logHandler) WithGroup(name string) slog.Handler { return logHandler{h.Handler.WithGroup(name)} }
