package tenantdb

import "github.com/prometheus/client_golang/prometheus"

// metric is one of a router's Prometheus metrics. None names a tenant, because there are too many.
type metric struct {
	desc  *prometheus.Desc
	kind  prometheus.ValueType
	value func(Stats) int64
}

var metrics = []metric{
	gauge("records", "Tenants whose records are kept.", func(s Stats) int64 { return int64(s.Tenants) }),
	gauge("pools", "Pools of tenants that are open.", func(s Stats) int64 { return int64(s.Pools) }),
	gauge("pools_in_use", "Pools of tenants that requests use.", func(s Stats) int64 { return int64(s.PoolsInUse) }),
	gauge("connections", "Connections to tenants' databases that are open.", func(s Stats) int64 { return int64(s.Connections) }),
	gauge("connections_limit", "Connections to tenants' databases that may be open.", func(s Stats) int64 { return int64(s.Budget) }),
	gauge("connections_waiting", "Connections that wait for their turn.", func(s Stats) int64 { return int64(s.Waiting) }),
	gauge("registry_listening", "1 while the registry reports changes.", func(s Stats) int64 {
		if s.Listening {
			return 1
		}
		return 0
	}),
	counter("hits_total", "Requests for a tenant that needed no look into the registry.", func(s Stats) int64 { return s.Hits }),
	counter("misses_total", "Requests for a tenant that needed one.", func(s Stats) int64 { return s.Misses }),
	counter("pools_opened_total", "Pools that were opened.", func(s Stats) int64 { return s.Opened }),
	counter("pools_evicted_total", "Pools that made room for others.", func(s Stats) int64 { return s.Evicted }),
	counter("connections_refused_total", "Connections that waited for too long.", func(s Stats) int64 { return s.Refused }),
	counter("changes_total", "Changes that the registry reported.", func(s Stats) int64 { return s.Changes }),
}

func gauge(name, help string, value func(Stats) int64) metric {
	return metric{prometheus.NewDesc("narthex_tenant_"+name, help, nil, nil), prometheus.GaugeValue, value}
}

func counter(name, help string, value func(Stats) int64) metric {
	return metric{prometheus.NewDesc("narthex_tenant_"+name, help, nil, nil), prometheus.CounterValue, value}
}

// Describe and Collect make a router a prometheus.Collector of its Stats.
func (r *Router) Describe(descriptions chan<- *prometheus.Desc) {
	for _, m := range metrics {
		descriptions <- m.desc
	}
}

// Collect implements prometheus.Collector.
func (r *Router) Collect(values chan<- prometheus.Metric) {
	stats := r.Stats()
	for _, m := range metrics {
		values <- prometheus.MustNewConstMetric(m.desc, m.kind, float64(m.value(stats)))
	}
}
