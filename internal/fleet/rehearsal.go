package fleet

import (
	"slices"
	"time"
)

// Rehearsal is what a run would do, as seen on copies of a few churches.
type Rehearsal struct {
	Copies    []Copy        `json:"copies"`
	Churches  int           `json:"churches"`  // that the run would change
	Predicted time.Duration `json:"predicted"` // length of the whole run, without its soak
}

// Copy is what a change did to a copy of a church's database.
type Copy struct {
	TenantID string        `json:"tenantId"`
	Why      string        `json:"why"`  // this church: largest, oldest or random
	Size     int64         `json:"size"` // bytes, before
	Took     time.Duration `json:"took"`
	Locks    []string      `json:"locks,omitempty"`    // on the church's tables, for which others have to wait
	Rewrites []string      `json:"rewrites,omitempty"` // tables that are written as a whole
	WAL      int64         `json:"wal"`                // bytes, with what others have written meanwhile
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

// Predict works out how long a run takes from what the copies took: churches are as the middle one of them.
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

// overhead is what a church takes beside its change: a connection, a lock, and its line in the ledger.
const overhead = 20 * time.Millisecond
