package fleet_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"

	"narthex/internal/fleet"
)

// churches returns n churches in pages of size, and counts in begun those that it has returned.
func churches(n, size int, begun *atomic.Int64) func(context.Context, string) ([]fleet.Church, error) {
	return func(ctx context.Context, after string) (page []fleet.Church, err error) {
		next := 1
		if after != "" {
			if _, err := fmt.Sscanf(after, "%d", &next); err != nil {
				return nil, err
			}
			next++
		}
		for ; next <= n && len(page) < size; next++ {
			page = append(page, fleet.Church{ID: fmt.Sprintf("%06d", next), Version: 2})
		}
		begun.Add(int64(len(page)))
		return page, ctx.Err()
	}
}

func TestEachChurchIsComparedAndReported(t *testing.T) {
	t.Parallel()
	var begun atomic.Int64
	odd := map[string]int{"000002": 1, "000005": 3} // versions
	page := churches(10, 3, &begun)
	var compared sync.Map
	var reported []string
	count, err := fleet.FindDrift(t.Context(), fleet.DriftCheck{
		Newest: 2,
		Churches: func(ctx context.Context, after string) ([]fleet.Church, error) {
			found, err := page(ctx, after)
			for i, church := range found {
				if version, ok := odd[church.ID]; ok {
					found[i].Version = version
				}
			}
			return found, err
		},
		Compare: func(_ context.Context, church fleet.Church) ([]string, error) {
			compared.Store(church.ID, true)
			switch church.ID {
			case "000003":
				return []string{"members: table missing"}, nil
			case "000004":
				return nil, errors.New("it does not answer")
			}
			return nil, nil
		},
		Report: func(d fleet.Drift) error {
			reported = append(reported, fmt.Sprintf("%s%v%v", d.ID, d.Differences, d.Err))
			return nil
		},
	})
	slices.Sort(reported)
	want := []string{"000001[]<nil>", "000002[behind: version 1, newest 2]<nil>", "000003[members: table missing]<nil>",
		"000004[]it does not answer", "000005[ahead: version 3, newest 2]<nil>", "000006[]<nil>", "000007[]<nil>", "000008[]<nil>",
		"000009[]<nil>", "000010[]<nil>"}
	if err != nil || !slices.Equal(reported, want) {
		t.Errorf("the report (%v) is\n%q, want\n%q", err, reported, want)
	}
	if wanted := (fleet.DriftCount{All: 10, Differing: 3, Uncompared: 1}); count != wanted || count.Same() != 6 {
		t.Errorf("the counts are %+v, with %d the same; want %+v and 6", count, count.Same(), wanted)
	}
	for id := range odd {
		if _, ok := compared.Load(id); ok {
			t.Errorf("%s was compared, want it left at its version", id)
		}
	}
}

// Only few churches are in memory at a time: the next page is read when all of this page have been started.
func TestChurchesAreReadAsTheyAreNeeded(t *testing.T) {
	t.Parallel()
	const page, atOnce = 10, 4
	var begun, done, running atomic.Int64
	count, err := fleet.FindDrift(t.Context(), fleet.DriftCheck{
		Newest:   2,
		Churches: churches(1000, page, &begun),
		Compare: func(context.Context, fleet.Church) ([]string, error) {
			if n := running.Add(1); n > atOnce {
				t.Errorf("%d are compared at once, want at most %d", n, atOnce)
			}
			if ahead := begun.Load() - done.Load(); ahead > page+atOnce+1 {
				t.Errorf("%d churches were read but not compared yet, want at most a page of %d and %d more", ahead, page, atOnce)
			}
			running.Add(-1)
			return nil, nil
		},
		Report: func(fleet.Drift) error { done.Add(1); return nil },
	})
	if err != nil || count.All != 1000 {
		t.Errorf("%d were compared (%v), want 1000", count.All, err)
	}
}

func TestErrorsThatEndACheck(t *testing.T) {
	t.Parallel()
	failure := errors.New("it failed")
	for name, end := range map[string]func(check *fleet.DriftCheck, cancel func()) (want error){
		"the registry fails": func(check *fleet.DriftCheck, _ func()) error {
			page := check.Churches
			check.Churches = func(ctx context.Context, after string) ([]fleet.Church, error) {
				if after != "" {
					return nil, failure
				}
				return page(ctx, after)
			}
			return failure
		},
		"nobody reads the report": func(check *fleet.DriftCheck, _ func()) error {
			check.Report = func(fleet.Drift) error { return failure }
			return failure
		},
		"it is stopped": func(check *fleet.DriftCheck, cancel func()) error {
			check.Report = func(fleet.Drift) error { cancel(); return nil }
			return context.Canceled
		},
		"it is stopped before it begins": func(_ *fleet.DriftCheck, cancel func()) error {
			cancel()
			return context.Canceled
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ctx, cancel := context.WithCancel(t.Context())
			var begun atomic.Int64
			check := fleet.DriftCheck{
				Newest: 2, Churches: churches(1000, 10, &begun),
				Compare: func(context.Context, fleet.Church) ([]string, error) { return nil, nil },
				Report:  func(fleet.Drift) error { return nil },
			}
			want := end(&check, cancel)
			count, err := fleet.FindDrift(ctx, check)
			if !errors.Is(err, want) || count.All >= 1000 {
				t.Errorf("%d were compared, with the error %v; want fewer than 1000, and %v", count.All, err, want)
			}
		})
	}
}
