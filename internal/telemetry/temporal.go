package telemetry

import (
	"github.com/prometheus/client_golang/prometheus"
	otelprometheus "go.opentelemetry.io/otel/exporters/prometheus"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/trace/noop"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/contrib/opentelemetry"
)

// Instrument adds metrics and traces to a Temporal client and the workers made from it. Temporal's headers
// carry only the trace's id, no baggage.
func (t *Telemetry) Instrument(options *client.Options) error {
	options.MetricsHandler = t.temporal
	if _, off := t.Traces.(noop.TracerProvider); off {
		return nil
	}
	tracing, err := opentelemetry.NewTracingInterceptor(opentelemetry.TracerOptions{
		Tracer:                  t.Traces.Tracer("narthex/temporal"),
		TextMapPropagator:       propagation.TraceContext{},
		DisableBaggage:          true,
		AllowInvalidParentSpans: true, // an unreadable header must not fail a signup
	})
	options.Interceptors = append(options.Interceptors, tracing)
	return err
}

// temporalMetrics returns the handler for the metrics of Temporal's SDK and of the workflows.
func temporalMetrics(registry *prometheus.Registry) (client.MetricsHandler, error) {
	exporter, err := otelprometheus.New(
		otelprometheus.WithRegisterer(registry), otelprometheus.WithoutScopeInfo(), otelprometheus.WithoutTargetInfo(),
	)
	if err != nil {
		return nil, err
	}
	seconds := metric.NewView(metric.Instrument{Kind: metric.InstrumentKindHistogram},
		metric.Stream{Aggregation: metric.AggregationExplicitBucketHistogram{Boundaries: Buckets}})
	provider := metric.NewMeterProvider(metric.WithReader(exporter), metric.WithView(seconds))
	return opentelemetry.NewMetricsHandler(opentelemetry.MetricsHandlerOptions{
		Meter: provider.Meter("temporal"), UseMonotonicCounters: true,
		OnError: func(error) {}, // a metric with an invalid name is dropped: it is not worth a panic
	}), nil
}
