// Package telemetry provides what operators see of a process from outside: metrics for Prometheus, traces
// over OTLP, and log lines with the ids by which traces are found. Each package decides what it counts and
// traces. None of it may contain personal data or labels that clients choose.
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

// Buckets are the bounds of histograms of durations, in seconds, from a query's to a stuck rollback's.
var Buckets = []float64{.005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30, 60, 300}

// Telemetry is one process's metrics and traces.
type Telemetry struct {
	Metrics *prometheus.Registry
	Traces  trace.TracerProvider // records none if nobody receives traces

	temporal client.MetricsHandler
	stop     func(context.Context) error
}

// Start starts metrics and, if OTEL_EXPORTER_OTLP_ENDPOINT or its variant for traces is set, traces.
// OpenTelemetry's SDK reads these and the other OTEL variables.
func Start(ctx context.Context, log *slog.Logger) (*Telemetry, error) {
	t := &Telemetry{Metrics: prometheus.NewRegistry(), Traces: noop.NewTracerProvider(), stop: func(context.Context) error { return nil }}
	t.Metrics.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	var err error
	t.temporal, err = temporalMetrics(t.Metrics)
	if err != nil {
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
	otel.SetErrorHandler(otel.ErrorHandlerFunc(func(error) { // the error may quote the endpoint, including a password
		log.Warn("Traces could not be sent; check that OTEL_EXPORTER_OTLP_ENDPOINT answers", "error", "not accepted")
	}))
	return t, nil
}

// traces returns a trace provider for the endpoint that the environment names.
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

// Stop exports the remaining traces.
func (t *Telemetry) Stop() {
	ctx, cancel := context.WithTimeout(context.Background(), flushLimit)
	defer cancel()
	_ = t.stop(ctx) // the error has been logged, and nothing is left to retry it
}
