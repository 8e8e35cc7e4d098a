package fleet

import (
	"cmp"
	"context"
	"fmt"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
)

const (
	driftAtOnce = 4                // databases compared at a time
	driftLimit  = 15 * time.Second // for each of them
)

// Church is what the registry knows about a church's database: where it is and which schema it has.
type Church struct {
	ID       string `json:"tenantId"`
	Database string `json:"database"` // its name
	Server   string `json:"server"`   // host:port
	Version  int    `json:"version"`  // of its schema
}

// DriftCheck is what FindDrift works with.
type DriftCheck struct {
	Newest int // version of the schema that all churches should have

	// Churches returns the next churches after an id, in the order of ids, or none after the last.
	Churches func(ctx context.Context, after string) ([]Church, error)
	// Compare says how a church's database differs from the newest schema.
	Compare func(ctx context.Context, church Church) (differences []string, err error)
	// Report is called for each church once it has been compared, never concurrently.
	Report func(Drift) error
}

// Drift is how a church's database differs from the newest schema.
type Drift struct {
	Church
	Differences []string
	Err         error // why the church could not be compared
}

// DriftCount counts churches.
type DriftCount struct {
	All        int `json:"churches"`
	Differing  int `json:"differing"`
	Uncompared int `json:"uncompared"` // could not be reached
}

// Same returns how many churches have the newest schema.
func (c DriftCount) Same() int { return c.All - c.Differing - c.Uncompared }

// FindDrift compares all churches' databases with the newest schema, and counts them. A church that can't be compared
// doesn't stop the others. If a church has another version, only the version is reported. Errors: those of Churches, Report
// and ctx.
func FindDrift(ctx context.Context, check DriftCheck) (count DriftCount, err error) {
	var reporting sync.Mutex
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(driftAtOnce)
	err = walk(ctx, check.Churches, func(church Church) {
		group.Go(func() error {
			drift := check.look(ctx, church)
			reporting.Lock()
			defer reporting.Unlock()
			if ctx.Err() != nil { // this may be why it could not be compared
				return ctx.Err()
			}
			count.add(drift)
			return check.Report(drift)
		})
	})
	return count, cmp.Or(group.Wait(), err)
}

// walk calls do with each church of each page.
func walk(ctx context.Context, page func(ctx context.Context, after string) ([]Church, error), do func(Church)) error {
	for after := ""; ; {
		churches, err := page(ctx, after)
		if err != nil || len(churches) == 0 {
			return err
		}
		for _, church := range churches {
			do(church)
		}
		after = churches[len(churches)-1].ID
	}
}

func (c *DriftCount) add(d Drift) {
	c.All++
	switch {
	case d.Err != nil:
		c.Uncompared++
	case len(d.Differences) > 0:
		c.Differing++
	}
}

func (c DriftCheck) look(ctx context.Context, church Church) Drift {
	found := Drift{Church: church}
	switch {
	case church.Version < c.Newest:
		found.Differences = []string{fmt.Sprintf("behind: version %d, newest %d", church.Version, c.Newest)}
		return found
	case church.Version > c.Newest:
		found.Differences = []string{fmt.Sprintf("ahead: version %d, newest %d", church.Version, c.Newest)}
		return found
	}
	ctx, cancel := context.WithTimeout(ctx, driftLimit)
	defer cancel()
	found.Differences, found.Err = c.Compare(ctx, church)
	return found
}
