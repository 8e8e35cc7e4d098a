package httpapi

import (
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/gin-gonic/gin"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"
	"go.opentelemetry.io/otel/trace/noop"

	"narthex/internal/ids"
	"narthex/internal/telemetry"
)

// Logs, metrics and traces name routes by their patterns, and contain no path, query or body.

// identify gives a request an id of our own, by which its log lines are found. An id sent by the client is
// ignored: it could be anything.
func identify(c *gin.Context) {
	id := ids.New()
	c.Header("X-Request-Id", id)
	c.Request = c.Request.WithContext(telemetry.WithRequestID(c.Request.Context(), id))
}

// trace begins a trace for an API request. It links to the caller's own trace, but does not continue it: the
// caller chooses that trace's id and sampling flag, and could add to one trace without end.
func (a *api) trace(c *gin.Context) {
	if a.Traces == (noop.TracerProvider{}) || !strings.HasPrefix(c.FullPath(), "/api/") {
		return // traces are off, or this is a health check or documentation
	}
	options := []trace.SpanStartOption{
		trace.WithNewRoot(), trace.WithSpanKind(trace.SpanKindServer),
		trace.WithAttributes(attribute.String("http.request.method", c.Request.Method), attribute.String("http.route", c.FullPath())),
	}
	sent := propagation.TraceContext{}.Extract(c.Request.Context(), propagation.HeaderCarrier(c.Request.Header))
	caller := trace.SpanContextFromContext(sent)
	if caller.IsValid() {
		options = append(options, trace.WithLinks(trace.Link{SpanContext: caller.WithTraceState(trace.TraceState{})}))
	}
	ctx, span := a.Traces.Tracer("narthex/http").Start(c.Request.Context(), c.Request.Method+" "+c.FullPath(), options...)
	defer span.End()
	c.Request = c.Request.WithContext(ctx)
	c.Next()
	span.SetAttributes(attribute.Int("http.response.status_code", c.Writer.Status()))
	if c.Writer.Status() >= http.StatusInternalServerError {
		span.SetStatus(codes.Error, "")
	}
}

// requestDurations counts requests and how long they take.
func requestDurations(metrics prometheus.Registerer) *prometheus.HistogramVec {
	return promauto.With(metrics).NewHistogramVec(prometheus.HistogramOpts{
		Name: "narthex_http_request_duration_seconds", Help: "How long requests take, by route.", Buckets: telemetry.Buckets,
	}, []string{"method", "route", "status"})
}

// observe measures a request, and logs one line about it.
func (a *api) observe(c *gin.Context) {
	began := time.Now()
	c.Next()
	took := time.Since(began)
	method, route, status := c.Request.Method, c.FullPath(), c.Writer.Status()
	if route == "" {
		method, route = "", "none" // the method can be anything too
	}
	a.took.WithLabelValues(method, route, strconv.Itoa(status)).Observe(took.Seconds())
	a.Log.InfoContext(c.Request.Context(), "request", "method", method, "route", route, "status", status, "duration_ms", took.Milliseconds())
}

// countFailure counts a church request that was answered with 5xx, unless the client has gone away.
func (a *api) countFailure(c *gin.Context) {
	c.Next()
	tenantID := c.GetString(tenantKey)
	if tenantID != "" && c.Writer.Status() >= http.StatusInternalServerError && c.Request.Context().Err() == nil {
		a.Failed(tenantID)
	}
}
