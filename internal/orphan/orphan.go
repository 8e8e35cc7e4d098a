// Package orphan defines orphans, which belong to no church and to no running signup: their kinds, when each is due for
// removal, and how a sweep that finds and removes them is scheduled and started. The registry finds rows, and the
// tenantserver finds databases. This package imports neither.
package orphan

import "time"

const (
	// Grace is how long an orphan is left alone after it was first seen.
	Grace = 7 * 24 * time.Hour
	// Quarantine is how long a database stays renamed before it is dropped.
	Quarantine = 24 * time.Hour
	// AtOnce is how many orphans one sweep removes. The others wait for the next sweep.
	AtOnce = 100
	// Fresh is how long metrics count an orphan after a sweep has last seen it: two days of sweeps.
	Fresh = 48 * time.Hour
)

// Kind is the kind of an orphan.
type Kind string

// The kinds.
const (
	Database Kind = "database" // a signup's role, with or without a database, that belongs to no church and no running signup
	Rows     Kind = "rows"     // registry rows of a signup that has ended without opening its church
	Entry    Kind = "entry"    // an entry of the email index whose admin is gone, or what a terminated invitation has made
	Tenant   Kind = "tenant"   // an open church whose database is gone; an operator must act, it is never removed
)

// Kinds lists all kinds.
var Kinds = []Kind{Database, Rows, Entry, Tenant}

// Action is what a sweep does or did with an orphan.
type Action string

// The actions.
const (
	Wait   Action = "wait"   // for the end of the grace or the quarantine, or for the next sweep
	Keep   Action = "keep"   // on an operator's request
	Report Action = "report" // only an operator can repair it
	Rename Action = "rename" // the database, so that nothing reaches it
	Drop   Action = "drop"   // the database and its role
	Delete Action = "delete" // rows in the registry
	Spare  Action = "spare"  // at the second look it was no longer an orphan
	Failed Action = "failed" // the action that was due failed; the next sweep retries it
)

// Removes reports whether the action changes something.
func (a Action) Removes() bool { return a == Rename || a == Drop || a == Delete }

// Orphan is an orphan that a sweep has found.
type Orphan struct {
	Kind        Kind       `json:"kind"`
	Server      string     `json:"server,omitempty"` // host:port; empty for orphans in the registry
	ID          string     `json:"id"`               // the tenant's id, or the admin's id of an entry
	TenantID    string     `json:"tenantId"`
	SignupID    string     `json:"signupId,omitempty"`
	HalfDropped bool       `json:"halfDropped,omitempty"` // or a role without a database; there is nothing to rename
	FirstSeenAt time.Time  `json:"firstSeenAt"`
	LastSeenAt  time.Time  `json:"lastSeenAt,omitzero"`
	RenamedAt   *time.Time `json:"renamedAt,omitempty"`
	Kept        bool       `json:"kept,omitempty"`

	SkipGrace bool `json:"skipGrace,omitempty" db:"-"` // an operator asked for its removal
}

// Due returns what to do with an orphan at time now.
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

// dueAt returns when an orphan that may be removed becomes due. For a renamed database, the grace period is over.
func (o Orphan) dueAt() time.Time {
	switch {
	case o.RenamedAt != nil:
		return o.RenamedAt.Add(Quarantine)
	case o.SkipGrace:
		return o.FirstSeenAt
	}
	return o.FirstSeenAt.Add(Grace)
}

// Recall adds what is recorded about orphans. An orphan without a record was first seen now.
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
