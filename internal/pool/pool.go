// Package pool is the contract of the pool of databases that are ready to be claimed by signups: the names by
// which its workflow and activity are known, and how it is kept. It is data alone.
package pool

import "time"

const (
	// Workflow is the registered name of the workflow that keeps the pool. It has no end.
	Workflow = "KeepPool"
	// Keep is its activity, which keeps the pool for a Round.
	Keep = "KeepPoolFilled"
)

const (
	// Round is how long one activity keeps the pool: another release's worker may do the next.
	Round = time.Minute
	// Rounds is after how many the workflow continues as a new run, so that its history stays short.
	Rounds = 60
	// Look is how often the stock is counted.
	Look = time.Second
	// Quiet is for how long nothing must have been claimed before a pool that is not low is filled up: a burst of
	// signups is spared the work.
	Quiet = 5 * time.Second
	// AtOnce is how many databases are made at a time.
	AtOnce = 2
	// Grace is how old a database is, at the least, before one that is not offered is taken for one that its maker or
	// its claimer has lost. A claimer whom it is taken from in between claims another.
	Grace = 5 * time.Minute
)

// Low is the low-water mark of a pool: with fewer databases in stock it is filled up at once.
func Low(size int) int { return (size + 3) / 4 }

// WorkflowID returns the id under which a task queue's workers keep their pool.
func WorkflowID(taskQueue string) string { return "pool-" + taskQueue }
