// Package telemetry is what operators see of a process from outside: metrics for Prometheus, traces for
// who takes OTLP, and log lines that carry the ids by which both are found. What is counted and traced is
// each package's own to say; nothing of it may hold personal data, nor a label that clients choose.
package telemetry

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracehttp"
	"go.opentelemetry.io/otel/sdk/resource"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"
	"go.opentelemetry.io/otel/trace/noop"
	"go.temporal.io/sdk/client"
)

// Buckets are the bounds of a histogram of durations, in seconds: from a query's to a stuck rollback's.
var Buckets = []float64{.005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30, 60, 300}

// Telemetry is one process's metrics and traces.
type Telemetry struct {
	Metrics *prometheus.Registry
	Traces  trace.TracerProvider // makes none where nobody takes them

	temporal client.MetricsHandler
	stop     func(context.Context) error
}

// Start begins to measure, and to trace where OTEL_EXPORTER_OTLP_ENDPOINT, or its like for traces, says
// who takes traces. It, and OTEL's other variables, are read by OpenTelemetry's SDK.
func Start(ctx context.Context, log *slog.Logger) (*Telemetry, error) {
	t := &Telemetry{Metrics: prometheus.NewRegistry(), Traces: noop.NewTracerProvider(), stop: func(context.Context) error { return nil }}
	t.Metrics.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	var err error
	if t.temporal, err = temporalMetrics(t.Metrics); err != nil {
		return nil, fmt.Errorf("the metrics cannot be set up: %w", err)
	}
	if os.Getenv("OTEL_EXPORTER_OTLP_ENDPOINT") == "" && os.Getenv("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT") == "" {
		return t, nil
	}
	provider, err := traces(ctx)
	if err != nil {
		return nil, fmt.Errorf("the traces' configuration (OTEL_…) is not valid: %w", err)
	}
	t.Traces, t.stop = provider, provider.Shutdown
	otel.SetErrorHandler(otel.ErrorHandlerFunc(func(error) { // which may quote the endpoint, and with it a password
		log.Warn("Traces could not be handed over; see that OTEL_EXPORTER_OTLP_ENDPOINT answers")
	}))
	return t, nil
}

// traces returns a maker of traces for the endpoint that the environment names.
func traces(ctx context.Context) (*sdktrace.TracerProvider, error) {
	exporter, err := otlptracehttp.New(ctx)
	if err != nil {
		return nil, err
	}
	name := resource.WithAttributes(attribute.String("service.name", "narthex"))
	about, err := resource.New(ctx, name, resource.WithTelemetrySDK(), resource.WithFromEnv())
	if err != nil {
		return nil, err
	}
	return sdktrace.NewTracerProvider(sdktrace.WithBatcher(exporter), sdktrace.WithResource(about)), nil
}

const flushLimit = 5 * time.Second

// Stop hands over the traces that are still here.
func (t *Telemetry) Stop() {
	ctx, cancel := context.WithTimeout(context.Background(), flushLimit)
	defer cancel()
	_ = t.stop(ctx) // what is wrong has been logged, and there is nobody left to try again
}
