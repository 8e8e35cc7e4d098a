package readydb

import (
	"testing"
	"time"
)

// Each look says how many are ready, and how long after the first look it happens.
func TestStockIsFilledWhenLowOrQuiet(t *testing.T) {
	t.Parallel()
	const size = 8 // low below 2
	type look struct {
		after      time.Duration
		ready      int
		wantToMake int
	}
	for name, looks := range map[string][]look{
		"an empty stock is filled at once":            {{0, 0, 8}},
		"a low one is filled in the middle of claims": {{0, 5, 0}, {time.Second, 3, 0}, {2 * time.Second, 1, 7}},
		"one that isn't low waits for quiet":          {{0, 5, 0}, {4 * time.Second, 5, 0}, {quiet, 5, 3}},
		"each claim starts the wait again":            {{0, 5, 0}, {4 * time.Second, 4, 0}, {8 * time.Second, 4, 0}, {9 * time.Second, 4, 4}},
		"after filling, the wait starts again":        {{0, 0, 8}, {quiet, 7, 0}, {2 * quiet, 7, 1}},
		"a full one stays":                            {{0, 8, 0}, {time.Hour, 8, 0}},
		"one above its size stays":                    {{0, 9, 0}, {time.Hour, 9, 0}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var stock Stock
			start := time.Now()
			for _, l := range looks {
				if got := stock.Missing(l.ready, size, start.Add(l.after)); got != l.wantToMake {
					t.Errorf("with %d of %d ready after %s, %d are made, want %d", l.ready, size, l.after, got, l.wantToMake)
				}
			}
		})
	}
}

func TestWithoutAStockNoneAreMade(t *testing.T) {
	t.Parallel()
	var stock Stock
	if got := stock.Missing(0, 0, time.Now()); got != 0 {
		t.Errorf("%d are made, want 0", got)
	}
}
