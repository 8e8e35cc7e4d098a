package main

import (
	"math"
	"slices"
	"time"
)

// samples are the times that something took.
type samples []time.Duration

// percentile returns the smallest sample that is at least as large as p percent of all (nearest rank), or
// 0 if there are no samples.
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

// bursts are the times of rounds in which many clients did something at once.
type bursts struct {
	size   int // how often it was done per round
	rounds samples
}

// perSecond returns the throughput of the median round.
func (b bursts) perSecond() float64 {
	return ratio(float64(b.size), b.rounds.p50().Seconds())
}

// ratio returns a/b, or 0 if there is nothing to compare with.
func ratio[N ~int64 | ~float64](a, b N) float64 {
	if b == 0 {
		return 0
	}
	return float64(a) / float64(b)
}
