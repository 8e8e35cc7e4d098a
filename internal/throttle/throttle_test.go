package throttle_test

import (
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"narthex/internal/dev/testenv"
	"narthex/internal/postgres"
	"narthex/internal/throttle"
)

func TestMain(m *testing.M) { testenv.Main(m) }

// openPool opens the test's own registry database.
func openPool(t *testing.T) *postgres.Pool {
	t.Helper()
	registry, _ := testenv.NewRegistry(t, testenv.Keys(t))
	return registry.Pool()
}

func TestThrottleIsALeakyBucket(t *testing.T) {
	t.Parallel()
	pool := openPool(t)
	counter := throttle.New(pool)
	key, limit := []byte("key"), throttle.Limit{Burst: 3, Every: time.Minute}
	var allowed atomic.Int32
	var wg sync.WaitGroup
	for range 20 {
		wg.Go(func() {
			wait, err := counter.Count(t.Context(), key, limit)
			if err != nil {
				t.Error(err)
			}
			if wait == 0 {
				allowed.Add(1)
			} else if wait < 50*time.Second || wait > time.Minute {
				t.Errorf("wait %s, want nearly a minute", wait)
			}
		})
	}
	wg.Wait()
	if allowed.Load() != 3 {
		t.Errorf("%d of 20 at once are allowed, want 3", allowed.Load())
	}
	if wait, err := counter.Count(t.Context(), []byte("another"), limit); wait != 0 || err != nil {
		t.Errorf("another key: wait %s, %v; want 0", wait, err)
	}
	if _, err := pool.Exec(t.Context(), `UPDATE throttles SET updated_at = updated_at - interval '1 minute'`); err != nil {
		t.Fatal(err)
	}
	for i, want := range []bool{true, false} {
		if wait, err := counter.Count(t.Context(), key, limit); (wait == 0) != want || err != nil {
			t.Errorf("a minute later, request %d: wait %s, %v; want it allowed: %t", i+1, wait, err, want)
		}
	}
}

func TestTidyDeletesUnusedBuckets(t *testing.T) {
	t.Parallel()
	pool := openPool(t)
	counter := throttle.New(pool)
	for _, key := range []string{"old", "new"} {
		if _, err := counter.Count(t.Context(), []byte(key), throttle.Limit{Burst: 1, Every: time.Hour}); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := pool.Exec(t.Context(), `UPDATE throttles SET updated_at = now() - interval '61 minutes' WHERE id = 'old'`); err != nil {
		t.Fatal(err)
	}
	if err := counter.Tidy(t.Context()); err != nil {
		t.Fatal(err)
	}
	var left string
	if err := pool.QueryRow(t.Context(), `SELECT string_agg(convert_from(id, 'UTF8'), ',') FROM throttles`).Scan(&left); err != nil {
		t.Fatal(err)
	}
	if left != "new" {
		t.Errorf("buckets left: %s, want new", left)
	}
}
