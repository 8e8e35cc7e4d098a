// Package orphan is what belongs to no church and to no running signup: which kinds there are, when each is due for
// removal, and how a sweep that finds and removes them is scheduled and started. Rows are the registry's to find and
// databases the tenantserver's: it imports neither.
package orphan

import "time"

const (
	// Grace is how long an orphan is left alone after it was first seen.
	Grace = 7 * 24 * time.Hour
	// Quarantine is how long a database stays renamed before it is dropped.
	Quarantine = 24 * time.Hour
	// AtOnce is how many orphans one sweep removes; the others wait for the next.
	AtOnce = 100
	// Fresh is how long an orphan counts in metrics after a sweep has last seen it: two days of sweeps.
	Fresh = 48 * time.Hour
)

// Kind is what an orphan is.
type Kind string

// The kinds.
const (
	Database Kind = "database" // a role that a signup made, with or without its database; no church's and no running signup's
	Rows     Kind = "rows"     // a signup's rows in the registry: its church was never opened, and it has ended
	Entry    Kind = "entry"    // an entry of the email index whose admin is gone
	Tenant   Kind = "tenant"   // an open church whose database is gone: it needs an operator, and is never removed
)

// Kinds are all kinds.
var Kinds = []Kind{Database, Rows, Entry, Tenant}

// Action is what a sweep does, or did, with an orphan.
type Action string

// The actions.
const (
	Wait   Action = "wait"   // for the end of the grace or the quarantine, or for the next sweep
	Keep   Action = "keep"   // an operator said so
	Report Action = "report" // only an operator can repair it
	Rename Action = "rename" // the database, so that nothing reaches it
	Drop   Action = "drop"   // the database and its role
	Delete Action = "delete" // rows in the registry
	Spare  Action = "spare"  // at the second look it was no orphan
	Failed Action = "failed" // to do what was due; the next sweep tries again
)

// Removes reports whether the action changes something.
func (a Action) Removes() bool { return a == Rename || a == Drop || a == Delete }

// Orphan is something that a sweep has found.
type Orphan struct {
	Kind        Kind       `json:"kind"`
	Server      string     `json:"server,omitempty"` // host:port; empty for what is in the registry
	ID          string     `json:"id"`               // the tenant's, or for an entry its own
	TenantID    string     `json:"tenantId"`
	SignupID    string     `json:"signupId,omitempty"`
	HalfDropped bool       `json:"halfDropped,omitempty"` // or a role without a database: there is nothing to rename
	FirstSeenAt time.Time  `json:"firstSeenAt"`
	LastSeenAt  time.Time  `json:"lastSeenAt,omitzero"`
	RenamedAt   *time.Time `json:"renamedAt,omitempty"`
	Kept        bool       `json:"kept,omitempty"`

	SkipGrace bool `json:"skipGrace,omitempty" db:"-"` // an operator asked for its removal
}

// Due returns what to do with an orphan at a time.
func (o Orphan) Due(now time.Time) Action {
	next := o.next()
	if next.Removes() && now.Before(o.dueAt()) {
		return Wait
	}
	return next
}

// next returns what to do with an orphan once it is due.
func (o Orphan) next() Action {
	switch {
	case o.Kept:
		return Keep
	case o.Kind == Tenant:
		return Report
	case o.Kind != Database:
		return Delete
	case o.RenamedAt == nil && !o.HalfDropped:
		return Rename
	}
	return Drop
}

// dueAt returns from when on an orphan may be removed, if it may at all. The grace is over for one that was renamed.
func (o Orphan) dueAt() time.Time {
	switch {
	case o.RenamedAt != nil:
		return o.RenamedAt.Add(Quarantine)
	case o.SkipGrace:
		return o.FirstSeenAt
	}
	return o.FirstSeenAt.Add(Grace)
}

// Recall adds what is recorded of orphans. What isn't recorded was first seen now.
func Recall(orphans, recorded []Orphan, now time.Time) {
	type key struct {
		kind       Kind
		server, id string
	}
	records := make(map[key]Orphan, len(recorded))
	for _, r := range recorded {
		records[key{r.Kind, r.Server, r.ID}] = r
	}
	for i := range orphans {
		o := &orphans[i]
		o.FirstSeenAt, o.LastSeenAt = now, now
		if r, ok := records[key{o.Kind, o.Server, o.ID}]; ok {
			o.FirstSeenAt, o.RenamedAt, o.Kept = r.FirstSeenAt, r.RenamedAt, r.Kept
		}
	}
}
