package orphan

import (
	"slices"
	"time"
)

// Found is an orphan and what a sweep does, or did, with it.
type Found struct {
	Orphan
	Action Action     `json:"action"`
	Next   Action     `json:"next,omitempty"`  // what a sweep does next, from DueAt on
	DueAt  *time.Time `json:"dueAt,omitempty"` // nil if nothing is to be done
}

// Judge says what to do with an orphan at a time, and what is to be done next and when.
func Judge(o Orphan, now time.Time) Found {
	f := Found{Orphan: o, Action: o.Due(now)}
	f.plan()
	return f
}

// Did takes in what was done with an orphan at a time.
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

// Result is what a sweep has found and done.
type Result struct {
	Found       []Found      `json:"found"`                 // at most 1,000, those that are due first
	Counts      map[Kind]int `json:"counts,omitempty"`      // of all
	Unreachable []string     `json:"unreachable,omitempty"` // servers, host:port, that could not be searched
}

// mostFound keeps a Result within what Temporal takes: 2 MB.
const mostFound = 1000

// Cut returns the result with all counted, and no more in it than Temporal takes.
func (r Result) Cut() Result {
	r.Counts = map[Kind]int{}
	for _, f := range r.Found {
		r.Counts[f.Kind]++
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

// Omitted is how many orphans were found and left out.
func (r Result) Omitted() int {
	all := 0
	for _, n := range r.Counts {
		all += n
	}
	return all - len(r.Found)
}

// Failed is how many orphans were due and could not be removed.
func (r Result) Failed() (failed int) {
	for _, f := range r.Found {
		if f.Action == Failed {
			failed++
		}
	}
	return failed
}
