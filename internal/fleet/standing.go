package fleet

import "time"

// Standing is how the fleet stands as seen by one release.
type Standing struct {
	Churches map[int]int   // by schema version
	Behind   time.Duration // for how long the church that has been behind longest is behind; 0 if none is
	Runs     map[State]int // that go on
	Failed   int           // churches that the newest run of their server could not change
}

// Active are the states of a run that goes on.
var Active = []State{Running, Paused, Halted}

// Pace says whether a church is behind a release's schema.
type Pace string

// The paces.
const (
	Current Pace = "current"
	Behind  Pace = "behind"
	Unknown Pace = "unknown" // the registry has not answered
)
