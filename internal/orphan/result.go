package orphan

import (
	"math/rand/v2"
	"slices"
	"time"
)

// Found is an orphan and what a sweep does or did with it.
type Found struct {
	Orphan
	Action Action     `json:"action"`
	Next   Action     `json:"next,omitempty"`  // what a sweep does next, from DueAt on
	DueAt  *time.Time `json:"dueAt,omitempty"` // nil if there is nothing to do
}

// Judge says what to do with an orphan now, and what to do next and when.
func Judge(o Orphan, now time.Time) Found {
	f := Found{Orphan: o, Action: o.Due(now)}
	f.plan()
	return f
}

// Did records what was done with an orphan and when.
func (f *Found) Did(action Action, at time.Time) {
	f.Action, f.Next, f.DueAt = action, "", nil
	if action == Rename {
		f.RenamedAt = &at
		f.plan()
	}
}

func (f *Found) plan() {
	if next := f.next(); next.Removes() {
		due := f.dueAt()
		f.Next, f.DueAt = next, &due
	}
}

// Result is the result of a sweep.
type Result struct {
	Found       []Found      `json:"found"`                 // at most 1,000: those that are due first
	Counts      map[Kind]int `json:"counts,omitempty"`      // of all orphans, also those left out of Found
	Unreachable []string     `json:"unreachable,omitempty"` // servers, host:port, that could not be searched
}

// mostFound keeps a Result below Temporal's limit of 2 MB.
const mostFound = 1000

// Cut returns the result with counts of all orphans, but no more of them than Temporal accepts. If more are due than one
// sweep removes, they are in random order: those that keep failing must not keep the others from their turn.
func (r Result) Cut() Result {
	r.Counts = map[Kind]int{}
	due := 0
	for _, f := range r.Found {
		r.Counts[f.Kind]++
		if f.Action.Removes() {
			due++
		}
	}
	if due > AtOnce {
		rand.Shuffle(len(r.Found), func(i, j int) { r.Found[i], r.Found[j] = r.Found[j], r.Found[i] })
	}
	slices.SortStableFunc(r.Found, func(a, b Found) int { return a.Action.urgency() - b.Action.urgency() })
	r.Found = r.Found[:min(len(r.Found), mostFound)]
	return r
}

func (a Action) urgency() int {
	switch {
	case a.Removes():
		return 0
	case a == Report:
		return 1
	}
	return 2
}

// Omitted returns how many orphans were found but left out.
func (r Result) Omitted() int {
	all := 0
	for _, n := range r.Counts {
		all += n
	}
	return all - len(r.Found)
}

// Failed returns how many orphans were due but could not be removed.
func (r Result) Failed() (failed int) {
	for _, f := range r.Found {
		if f.Action == Failed {
			failed++
		}
	}
	return failed
}
