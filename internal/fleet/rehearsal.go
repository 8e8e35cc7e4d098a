package fleet

import (
	"slices"
	"time"
)

// Rehearsal is what a run would do, as seen on copies of a few churches.
type Rehearsal struct {
	Copies    []Copy        `json:"copies"`
	Churches  int           `json:"churches"`  // that the run would change
	Predicted time.Duration `json:"predicted"` // duration of the whole run, without its soak
}

// Copy is what a change did to a copy of a church's database.
type Copy struct {
	TenantID string        `json:"tenantId"`
	Why      string        `json:"why"`  // why this church: largest, oldest or random
	Size     int64         `json:"size"` // bytes, before
	Took     time.Duration `json:"took"`
	Locks    []string      `json:"locks,omitempty"`    // on the church's tables, for which others wait
	Rewrites []string      `json:"rewrites,omitempty"` // tables that are rewritten
	WAL      int64         `json:"wal"`                // bytes, including what others have written in the meantime
	Disk     int64         `json:"disk"`               // bytes by which it has grown
	Error    string        `json:"error,omitempty"`
}

// Failure says which copy could not be changed, and why, or "".
func (r Rehearsal) Failure() string {
	i := slices.IndexFunc(r.Copies, func(c Copy) bool { return c.Error != "" })
	if i < 0 {
		return ""
	}
	return r.Copies[i].TenantID + ": " + r.Copies[i].Error
}

// Predict works out how long a run takes. It assumes that churches take as long as the median copy.
func (r *Rehearsal) Predict(options Options) {
	var took []time.Duration
	for _, c := range r.Copies {
		if c.Error == "" {
			took = append(took, c.Took)
		}
	}
	if len(took) == 0 {
		return
	}
	slices.Sort(took)
	r.Predicted = (took[len(took)/2] + overhead) * time.Duration(r.Churches) / time.Duration(options.WithDefaults().AtOnce)
	if options.Rate > 0 {
		r.Predicted = max(r.Predicted, time.Duration(float64(r.Churches)/options.Rate*float64(time.Second)))
	}
}

// overhead is the time that a church takes in addition to its change: for a connection, a lock, and its row in the ledger.
const overhead = 20 * time.Millisecond
