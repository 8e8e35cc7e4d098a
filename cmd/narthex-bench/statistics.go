package main

import (
	"math"
	"slices"
	"time"
)

// samples are how long something took, each time.
type samples []time.Duration

// percentile returns the least sample that p percent of all are not above: the nearest rank. Without
// samples it is 0.
func (s samples) percentile(p float64) time.Duration {
	if len(s) == 0 {
		return 0
	}
	sorted := slices.Sorted(slices.Values(s))
	rank := int(math.Ceil(p / 100 * float64(len(sorted))))
	return sorted[min(max(rank, 1), len(sorted))-1]
}

func (s samples) p50() time.Duration { return s.percentile(50) }
func (s samples) p95() time.Duration { return s.percentile(95) }

// bursts are rounds in which many clients did something at once: how long each round took.
type bursts struct {
	size   int // how often it was done in a round
	rounds samples
}

// perSecond is the throughput of the median round.
func (b bursts) perSecond() float64 {
	return ratio(float64(b.size), b.rounds.p50().Seconds())
}

// ratio is 0 where there is nothing to compare with.
func ratio[N ~int64 | ~float64](a, b N) float64 {
	if b == 0 {
		return 0
	}
	return float64(a) / float64(b)
}
