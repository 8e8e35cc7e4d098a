package tenantdb_test

import (
	"context"
	"runtime"
	"testing"

	"narthex/internal/dev/testenv"
)

func heap() uint64 {
	runtime.GC()
	runtime.GC()
	var stats runtime.MemStats
	runtime.ReadMemStats(&stats)
	return stats.HeapAlloc + stats.StackInuse
}

// BenchmarkWarmAcquire acquires and releases a tenant whose record and pool are cached.
func BenchmarkWarmAcquire(b *testing.B) {
	w := newWorld(b)
	r, id := w.router(10), w.tenants(1)[0]
	w.wantDatabase(r, id)
	eventually(b, "the router receives notifications", func() bool { return r.Stats().Listening })
	ctx := context.Background()
	b.ReportAllocs()
	for b.Loop() {
		tenant, err := r.Acquire(ctx, id)
		if err != nil {
			b.Fatal(err)
		}
		tenant.Release()
	}
	b.ReportMetric(float64(r.Stats().Misses)/float64(b.N), "misses/op")
}

// BenchmarkRead asks a tenant's database for one row, on a connection that is open.
func BenchmarkRead(b *testing.B) {
	w := newWorld(b)
	r, id := w.router(10), w.tenants(1)[0]
	b.ReportAllocs()
	for b.Loop() {
		if _, err := database(b.Context(), r, id); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkWalk asks 2,000 tenants one after another, with 50 connections for all of them. To the router they are separate
// tenants, but they share 20 real databases, 100 tenants each.
func BenchmarkWalk(b *testing.B) {
	const tenants, budget, databases = 2000, 50, 20
	w := newWorld(b)
	urls := make([]string, databases)
	for i := range urls {
		urls[i] = testenv.NewDatabase(b)
	}
	all := make([]string, tenants)
	for i := range all {
		all[i] = w.enter(urls[i%databases])
	}
	before := heap()
	r := w.router(budget)
	most, asked := 0, 0
	for b.Loop() {
		for _, id := range all {
			if _, err := database(b.Context(), r, id); err != nil {
				b.Fatal(err)
			}
			most = max(most, r.Stats().Connections)
			asked++
		}
	}
	stats := r.Stats()
	if most > budget || stats.Refused > 0 {
		b.Fatalf("%d connections were open (%+v), want at most %d and nobody refused", most, stats, budget)
	}
	b.ReportMetric(float64(b.Elapsed().Microseconds())/float64(asked), "µs/tenant")
	b.ReportMetric(float64(most), "connections")
	b.ReportMetric(float64(stats.Pools), "pools")
	b.ReportMetric(float64(heap()-before)/(1<<20), "MiB")
}

// BenchmarkTenThousandRecords fills the router with as many tenants' records as it keeps, and then acquires
// them in turn.
func BenchmarkTenThousandRecords(b *testing.B) {
	const tenants = 10_000
	w := newWorld(b)
	url := testenv.NewDatabase(b)
	all := make([]string, tenants)
	for i := range all {
		all[i] = w.enter(url)
	}
	before := heap()
	r := w.router(50)
	acquire := func(id string) {
		tenant, err := r.Acquire(b.Context(), id)
		if err != nil {
			b.Fatal(err)
		}
		tenant.Release()
	}
	for _, id := range all {
		acquire(id)
	}
	kept := r.Stats().Tenants
	memory := float64(heap() - before)
	i := 0
	for b.Loop() {
		acquire(all[i%tenants])
		i++
	}
	b.ReportMetric(float64(kept), "tenants")
	b.ReportMetric(memory/float64(kept), "B/tenant")
	b.ReportMetric(memory/(1<<20), "MiB")
}
