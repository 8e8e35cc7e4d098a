// Package fleet defines runs over the fleet. A run brings the churches of one PostgreSQL server to one version of the
// tenant schema, canaries first. It can be paused, resumed, cancelled, repeated for failed churches, and undone. The
// registry's ledger records what was done with each church. The package imports no database.
package fleet

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"time"

	"go.temporal.io/sdk/temporal"
)

// Workflow is the registered name of a run. It takes an Input and returns a Progress. Its id is WorkflowID.
const Workflow = "FleetMigration"

// A run's activities.
const (
	Rehearse = "RehearseFleet"   // Input → Rehearsal: makes the change on copies of a few churches
	Open     = "OpenFleetRun"    // Input → Tally: enters the run and its churches in the ledger
	Extend   = "ExtendFleetRun"  // Input → Tally: adds churches that signups have created since
	Change   = "ChangeChurches"  // Slice → Result: changes the schema of one church after the other
	Enter    = "EnterFleetState" // Progress → nothing: writes the run's position to the ledger
	Requeue  = "RequeueFailed"   // run id → Tally: puts failed churches back in the queue
	Probe    = "ProbeCanaries"   // Watch → descriptions of the canaries' problems
)

// Signals that a run accepts, without content. To stop it for good, cancel the workflow.
const (
	Pause  = "pause"
	Resume = "resume"
	Retry  = "retry-failed"
)

// Query asks a run for its Progress.
const Query = "progress"

// WorkflowID returns the workflow id of runs over a server's churches. Only one runs at a time.
func WorkflowID(server string) string { return "fleet-" + server }

// ErrorRehearsal is the type of the error with which a run ends if its rehearsal fails.
const ErrorRehearsal = "RehearsalFailed"

// StateAttribute is the search attribute that holds a run's State.
var StateAttribute = temporal.NewSearchAttributeKeyKeyword("FleetState")

// Stage is where a run is.
type Stage string

// The stages, in their order.
const (
	Rehearsing Stage = "rehearsing" // on copies: no church is touched
	Preparing  Stage = "preparing"  // the template and the ledger
	Canaries   Stage = "canaries"
	Soaking    Stage = "soaking" // the canaries are watched
	Waves      Stage = "waves"
	Late       Stage = "late" // churches that signups have created since
	Done       Stage = "done"
)

var stages = []Stage{Rehearsing, Preparing, Canaries, Soaking, Waves, Late, Done}

// State is what a run is doing in its stage.
type State string

// The states.
const (
	Running   State = "running"
	Paused    State = "paused"    // by an operator
	Halted    State = "halted"    // because too much failed; an operator decides what is next
	Completed State = "completed" // with or without failed churches
	Cancelled State = "cancelled"
)

// Ended reports whether a run in this state is over.
func (s State) Ended() bool { return s == Completed || s == Cancelled }

// Shares are the cumulative shares of the churches, without the canaries, that have been changed at the end of each wave
// except the last. Wave 0 is the canaries.
var Shares = []float64{0.01, 0.1}

// LastWave is the number of the last wave.
const LastWave = 3

// Options are the options of a run.
type Options struct {
	Canaries []string      `json:"canaries,omitempty"` // tenant ids; otherwise the DefaultCanaries least used
	Soak     time.Duration `json:"soak,omitempty"`     // for which the canaries are watched; 0 skips it
	AtOnce   int           `json:"atOnce,omitempty"`   // databases that are changed at a time; 0 is DefaultAtOnce
	Rate     float64       `json:"rate,omitempty"`     // churches a second at most; 0 is no limit
	HaltAt   float64       `json:"haltAt,omitempty"`   // share of churches whose failure halts the run; 0 is DefaultHaltAt
	Limits   Limits        `json:"limits,omitzero"`    // of the change of one church
	Bounds
}

// Limits bound how long the change of a church may delay its requests.
type Limits struct {
	Lock      time.Duration `json:"lock,omitempty"`      // a statement's wait for a lock; 0 is DefaultLockTimeout
	Statement time.Duration `json:"statement,omitempty"` // a statement's time; 0 is DefaultStatementTimeout
	Patience  time.Duration `json:"patience,omitempty"`  // waiting for locks, over all attempts; 0 is DefaultLockPatience
}

// Bounds are the load above which a run over a server's churches slows down.
type Bounds struct {
	MaxLag         time.Duration `json:"maxLag,omitempty"`         // of a standby; 0 is DefaultMaxLag
	MaxConnections float64       `json:"maxConnections,omitempty"` // share of max_connections in use; 0 is DefaultMaxConnections
	MaxRead        time.Duration `json:"maxRead,omitempty"`        // p95 of reads; 0 is DefaultMaxRead
	MaxVacuums     int           `json:"maxVacuums,omitempty"`     // number of autovacuums that prevent wraparound
}

// The defaults of a run's options.
const (
	DefaultCanaries = 3
	DefaultSoak     = 15 * time.Minute
	DefaultAtOnce   = 4
	DefaultHaltAt   = 0.02

	DefaultLockTimeout      = 500 * time.Millisecond
	DefaultStatementTimeout = time.Minute
	DefaultLockPatience     = 30 * time.Second

	DefaultMaxLag         = 10 * time.Second
	DefaultMaxConnections = 0.8
	DefaultMaxRead        = 250 * time.Millisecond

	leastFailures = 3 // failures that halt a run, however few churches it has
)

// Input is what a run starts with.
type Input struct {
	RunID   string  `json:"runId"`             // a ULID; the run's id in the ledger
	Server  string  `json:"server"`            // host:port
	Version int     `json:"version"`           // the target; 0 for an undo, which returns each church to its earlier version
	Undoes  string  `json:"undoes,omitempty"`  // the run to undo, for its changed churches only
	Retries string  `json:"retries,omitempty"` // the run to repeat, for its failed churches only
	Options Options `json:"options"`

	Rehearse bool `json:"rehearse,omitempty"` // on copies, first
	Only     bool `json:"only,omitempty"`     // rehearse only

	Resumed *Position `json:"resumed,omitempty"` // set when the workflow continues as new
}

// Position is where a run is. It is carried over when the workflow continues as new.
type Position struct {
	Progress  Progress  `json:"progress"`
	Wave      int       `json:"wave"`
	SoakUntil time.Time `json:"soakUntil,omitzero"`
	ResumedAt time.Time `json:"resumedAt,omitzero"` // the last time, if it was paused or halted
	Patience  int       `json:"patience"`           // failures at which it halts
	Held      int       `json:"held,omitempty"`     // of AtOnce, because the server suffers
}

// Progress is a run's progress.
type Progress struct {
	RunID  string `json:"runId"`
	Server string `json:"server"`
	Stage  Stage  `json:"stage"`
	State  State  `json:"state"`
	Reason string `json:"reason,omitempty"` // why it is paused, halted or slowed
	Tally  Tally  `json:"tally"`

	Rehearsal *Rehearsal `json:"rehearsal,omitempty"`
}

// Next returns the next stage. A run with no church to change is done after Preparing.
func (p Progress) Next() Stage {
	if p.Stage == Preparing && p.Tally.Waiting == 0 {
		return Done
	}
	return stages[slices.Index(stages, p.Stage)+1]
}

// Tally counts a run's churches.
type Tally struct {
	Waiting int `json:"waiting"` // or being changed
	Changed int `json:"changed"`
	Failed  int `json:"failed"`
	Gone    int `json:"gone"` // removed before their turn
}

// All returns how many churches the run has.
func (t Tally) All() int { return t.Waiting + t.Changed + t.Failed + t.Gone }

// Budget returns how many failures halt a run over that many churches.
func (o Options) Budget(churches int) int {
	return max(leastFailures, int(math.Ceil(o.HaltAt*float64(churches))))
}

// WithDefaults returns the options with defaults for what was left out.
func (o Options) WithDefaults() Options {
	o.AtOnce = cmp.Or(o.AtOnce, DefaultAtOnce)
	o.HaltAt = cmp.Or(o.HaltAt, DefaultHaltAt)
	return o
}

// WithDefaults returns the limits with defaults for what was left out.
func (l Limits) WithDefaults() Limits {
	l.Lock = cmp.Or(l.Lock, DefaultLockTimeout)
	l.Statement = cmp.Or(l.Statement, DefaultStatementTimeout)
	l.Patience = cmp.Or(l.Patience, DefaultLockPatience)
	return l
}

// WithDefaults returns the bounds with defaults for what was left out.
func (b Bounds) WithDefaults() Bounds {
	b.MaxLag = cmp.Or(b.MaxLag, DefaultMaxLag)
	b.MaxConnections = cmp.Or(b.MaxConnections, DefaultMaxConnections)
	b.MaxRead = cmp.Or(b.MaxRead, DefaultMaxRead)
	return b
}

// Slice is what one activity does of a wave.
type Slice struct {
	RunID  string  `json:"runId"`
	Server string  `json:"server"`
	Wave   int     `json:"wave"`
	AtOnce int     `json:"atOnce"`
	Rate   float64 `json:"rate"`
	Budget int     `json:"budget"` // failures at which it stops
	Held   int     `json:"held"`   // how many of AtOnce are held back, because the server suffers
	Limits Limits  `json:"limits,omitzero"`
	Bounds
}

// Result is what an activity returns for a slice.
type Result struct {
	Tally Tally `json:"tally"`
	Left  int   `json:"left"` // of the wave

	Held   int    `json:"held,omitempty"`   // how many of Slice.AtOnce are held back now,
	Reason string `json:"reason,omitempty"` // and why
}

// Watch is the input of a probe of the canaries.
type Watch struct {
	RunID     string    `json:"runId"`
	Server    string    `json:"server"`
	ResumedAt time.Time `json:"resumedAt,omitzero"` // problems before that are known to the operator who resumed the run
}

// SliceTime is how long one activity runs, so that the next can run on another release's worker.
const SliceTime = time.Minute

// ProbePause is the time between two probes of the soaking canaries. SignupTime is how long after the last wave a signup
// may still run on a worker that doesn't know the new schema.
const (
	ProbePause = 30 * time.Second
	SignupTime = 30 * time.Second
)

// TooMany says why a run halts.
func (t Tally) TooMany() string { return fmt.Sprintf("%d of %d churches failed", t.Failed, t.All()) }

// Words returns the progress in words: "120 of 300 churches, 1 failed".
func (t Tally) Words() string {
	words := fmt.Sprintf("%d of %d churches", t.Changed+t.Gone, t.All())
	if t.Failed > 0 {
		words += fmt.Sprintf(", %d failed", t.Failed)
	}
	return words
}

// Words says how far a run is, and why it doesn't proceed.
func (p Progress) Words() string {
	if p.Reason == "" {
		return p.Tally.Words()
	}
	return p.Tally.Words() + " (" + p.Reason + ")"
}
