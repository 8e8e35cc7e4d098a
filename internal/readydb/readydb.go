// Package readydb is the contract for ready databases, which are made before a signup needs one: the names of the
// workflow and the activity that keep them in stock, how to start the workflow, and when to make more. It imports no
// database.
package readydb

import "time"

// The registered names say "pool", the former name of ready databases, because histories contain them.
const (
	// Workflow is the registered name of the workflow that keeps databases ready. It never ends.
	Workflow = "KeepPool"
	// Keep is its activity, which keeps databases ready for a Round.
	Keep = "KeepPoolFilled"
)

const (
	// Round is how long one activity keeps databases ready. The next may run on another release's worker.
	Round = time.Minute
	// Rounds is the number of rounds after which the workflow continues as new, to keep its history short.
	Rounds = 60
	// Look is how often the stock is counted.
	Look = time.Second
	// AtOnce is how many databases are made at a time.
	AtOnce = 2
	// Grace is the age at which a database that isn't offered counts as lost by its maker or its claimer.
	// If the claimer was only slow and its database is dropped, it claims another.
	Grace = 5 * time.Minute
)

// WorkflowID returns the id of the workflow that keeps databases ready for a task queue.
func WorkflowID(taskQueue string) string { return "pool-" + taskQueue }
