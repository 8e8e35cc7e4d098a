// Package orphan is the contract of the sweep for orphans: what belongs to no church and to no signup that
// is under way. It is data alone, and the rules by which long-lost things are removed.
package orphan

import (
	"slices"
	"time"
)

// Workflow is the registered name of the sweep.
const Workflow = "SweepOrphans"

// The sweep's activities.
const (
	Find   = "FindOrphans"  // Sweep → Result
	Remove = "RemoveOrphan" // Orphan → what was done, an Action
)

const (
	// Grace is how long an orphan is left alone after it was first seen.
	Grace = 7 * 24 * time.Hour
	// Quarantine is how long a database stays renamed before it is dropped.
	Quarantine = 24 * time.Hour
	// AtOnce is how many orphans one sweep removes; the others wait for the next.
	AtOnce = 100
)

// Kind is what an orphan is.
type Kind string

// The kinds.
const (
	Database Kind = "database" // a role that a signup made, with its database or without; neither a church's nor a running signup's
	Rows     Kind = "rows"     // a signup's rows in the registry, whose church was never opened and whose signup has ended
	Entry    Kind = "entry"    // an entry of the email index whose admin is gone
	Tenant   Kind = "tenant"   // an open church whose database is gone: an operator's to mend, never removed
)

// Action is what a sweep does, or did, with an orphan.
type Action string

// The actions.
const (
	Wait   Action = "wait"   // until the grace or the quarantine is over
	Keep   Action = "keep"   // an operator said so
	Report Action = "report" // only a person can mend it
	Rename Action = "rename" // the database, so that nothing reaches it any more
	Drop   Action = "drop"   // the database and its role
	Delete Action = "delete" // rows in the registry
	Spare  Action = "spare"  // at the second look it was no orphan any more
)

// Orphan is something that a sweep has found.
type Orphan struct {
	Kind        Kind       `json:"kind"`
	Server      string     `json:"server,omitempty"` // host:port; empty for what is in the registry
	ID          string     `json:"id"`               // the tenant's, or for an entry its own
	TenantID    string     `json:"tenantId"`
	SignupID    string     `json:"signupId,omitempty"`
	HalfDropped bool       `json:"halfDropped,omitempty" db:"-"` // or a role without a database: there is nothing to rename
	FirstSeenAt time.Time  `json:"firstSeenAt"`
	RenamedAt   *time.Time `json:"renamedAt,omitempty"`
	Kept        bool       `json:"kept,omitempty"`
}

// Due returns what is to be done with an orphan at a time.
func (o Orphan) Due(now time.Time) Action {
	switch {
	case o.Kept:
		return Keep
	case o.Kind == Tenant:
		return Report
	case o.RenamedAt != nil && now.Before(o.RenamedAt.Add(Quarantine)), now.Before(o.FirstSeenAt.Add(Grace)):
		return Wait
	case o.Kind != Database:
		return Delete
	case o.RenamedAt == nil && !o.HalfDropped:
		return Rename
	}
	return Drop
}

// Sweep is what a sweep starts with.
type Sweep struct {
	DryRun bool `json:"dryRun,omitempty"` // looks alone: records nothing, removes nothing
}

// Found is an orphan, and what is to be done with it, or was.
type Found struct {
	Orphan
	Action Action `json:"action"`
}

// Result is what a sweep has found and done.
type Result struct {
	Found       []Found      `json:"found"`                 // at most 1,000, those first that are due
	Counts      map[Kind]int `json:"counts,omitempty"`      // of all
	Unreachable []string     `json:"unreachable,omitempty"` // servers, host:port, that could not be asked
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

// Omitted is how many orphans were found and left out.
func (r Result) Omitted() int {
	all := 0
	for _, n := range r.Counts {
		all += n
	}
	return all - len(r.Found)
}

func (a Action) urgency() int {
	switch a {
	case Rename, Drop, Delete:
		return 0
	case Report:
		return 1
	}
	return 2
}
