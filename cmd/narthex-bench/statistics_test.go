package main

import (
	"context"
	"errors"
	"slices"
	"sync/atomic"
	"testing"
	"time"
)

func TestPercentile(t *testing.T) {
	t.Parallel()
	hundred := make(samples, 100)
	for i := range hundred {
		hundred[i] = time.Duration(100 - i) // the order does not matter
	}
	for _, c := range []struct {
		of   samples
		p    float64
		want time.Duration
	}{
		{nil, 50, 0},
		{samples{7}, 50, 7},
		{samples{7}, 95, 7},
		{samples{3, 1, 2}, 0, 1},
		{samples{3, 1, 2}, 50, 2},
		{samples{4, 3, 2, 1}, 50, 2},
		{samples{3, 1, 2}, 95, 3},
		{hundred, 50, 50},
		{hundred, 95, 95},
		{hundred, 95.5, 96},
		{hundred, 100, 100},
	} {
		before := slices.Clone(c.of)
		if got := c.of.percentile(c.p); got != c.want {
			t.Errorf("percentile %g of %v is %d, want %d", c.p, c.of, got, c.want)
		}
		if !slices.Equal(before, c.of) {
			t.Errorf("percentile %g has changed the samples", c.p)
		}
	}
}

func TestPerSecond(t *testing.T) {
	t.Parallel()
	b := bursts{size: 20, rounds: samples{10 * time.Second, 4 * time.Second, time.Second}}
	if got := b.perSecond(); got != 5 {
		t.Errorf("20 in a median of 4 seconds are %g a second, want 5", got)
	}
	if got := (bursts{}).perSecond(); got != 0 {
		t.Errorf("without rounds there are %g a second, want 0", got)
	}
}

// The printed figure counts: 1.254 still meets a goal of 1.25.
func TestGoals(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		f    figure
		want string
	}{
		{figure{what: "a", value: 1.254, goal: 1.25}, "| a | 1.25 | ≤ 1.25 | met |\n"},
		{figure{what: "a", value: 1.256, goal: 1.25}, "| a | 1.26 | ≤ 1.25 | missed |\n"},
		{figure{what: "a", value: 1.9, goal: 2, atLeast: true}, "| a | 1.90 | ≥ 2 | missed |\n"},
		{figure{what: "a", value: 2.1, goal: 2, atLeast: true}, "| a | 2.10 | ≥ 2 | met |\n"},
		{figure{what: "a", value: 61.2, unit: " MiB", goal: 150}, "| a | 61 MiB | ≤ 150 MiB | met |\n"},
		{figure{what: "a", value: 3}, "| a | 3.00 | | |\n"},
	} {
		if got := c.f.row(); got != c.want {
			t.Errorf("the row is %q, want %q", got, c.want)
		}
	}
}

func TestAlternate(t *testing.T) {
	t.Parallel()
	var order string
	letter := func(l string) *variant {
		return &variant{do: func(context.Context) error { order += l; return nil }}
	}
	a, b := letter("a"), letter("b")
	if err := alternate(t.Context(), 2, noRest, a, b); err != nil {
		t.Fatal(err)
	}
	if want := "abbaabbaab"; order != want || len(a.times) != 2 || len(b.times) != 2 {
		t.Errorf("the order is %s, with %d and %d samples; want %s, and 2 of each", order, len(a.times), len(b.times), want)
	}
}

func TestTogether(t *testing.T) {
	t.Parallel()
	var done, now, most atomic.Int32
	var all atomic.Bool
	err := together(t.Context(), 3*atOnce, func(context.Context) error {
		defer now.Add(-1)
		done.Add(1)
		for n := now.Add(1); n > most.Load(); {
			most.Store(n)
		}
		for deadline := time.Now().Add(time.Minute); !all.Load() && time.Now().Before(deadline); time.Sleep(time.Millisecond) {
			all.Store(all.Load() || now.Load() == atOnce)
		}
		return nil
	})
	if err != nil || done.Load() != 3*atOnce || most.Load() != atOnce {
		t.Errorf("%d were done, %d at once (%v); want %d and %d", done.Load(), most.Load(), err, 3*atOnce, atOnce)
	}
	broken := errors.New("broken")
	if err := together(t.Context(), 3*atOnce, func(context.Context) error { return broken }); !errors.Is(err, broken) {
		t.Errorf("the error is %v, want %v", err, broken)
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if err := together(ended, 1, func(context.Context) error { return nil }); !errors.Is(err, context.Canceled) {
		t.Errorf("after the end the error is %v, want %v", err, context.Canceled)
	}
}
