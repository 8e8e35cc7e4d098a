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

// Instrument has a Temporal client, and the workers made from it, measured and traced. A trace travels in
// Temporal's headers: its id and nothing else, no baggage.
func (t *Telemetry) Instrument(options *client.Options) error {
	options.MetricsHandler = t.temporal
	if _, off := t.Traces.(noop.TracerProvider); off {
		return nil
	}
	tracing, err := opentelemetry.NewTracingInterceptor(opentelemetry.TracerOptions{
		Tracer:                  t.Traces.Tracer("narthex/temporal"),
		TextMapPropagator:       propagation.TraceContext{},
		DisableBaggage:          true,
		AllowInvalidParentSpans: true, // a header that cannot be read must not fail a signup
	})
	options.Interceptors = append(options.Interceptors, tracing)
	return err
}

// temporalMetrics returns what takes the metrics of Temporal's SDK and of the workflows.
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
		OnError: func(error) {}, // a name that is not valid is not worth a panic: it is not measured
	}), nil
}
