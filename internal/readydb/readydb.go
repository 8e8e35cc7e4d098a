// Package readydb is the contract of ready databases, which are made before a signup asks for one: the names of the
// workflow and the activity that keep them in stock, how to start it, and when more are made. It imports no database.
package readydb

import "time"

// The registered names say "pool", as ready databases were called once: histories carry them.
const (
	// Workflow is the registered name of the workflow that keeps databases ready. It never ends.
	Workflow = "KeepPool"
	// Keep is its activity, which keeps them for a Round.
	Keep = "KeepPoolFilled"
)

const (
	// Round is how long one activity keeps databases ready. The next may run on another release's worker.
	Round = time.Minute
	// Rounds is after how many rounds the workflow continues as new, to keep its history short.
	Rounds = 60
	// Look is how often the stock is counted.
	Look = time.Second
	// AtOnce is how many databases are made at a time.
	AtOnce = 2
	// Grace is how old a database must be before one that isn't offered counts as lost by its maker or its claimer.
	// A claimer that is only slow, and whose database is dropped, claims another.
	Grace = 5 * time.Minute
)

// WorkflowID returns the id under which a task queue's workers keep databases ready.
func WorkflowID(taskQueue string) string { return "pool-" + taskQueue }
