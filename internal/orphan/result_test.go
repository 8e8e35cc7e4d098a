package orphan

import (
	"slices"
	"strconv"
	"testing"
)

// Of 101 orphans that are due, all but the last found can't be removed. A sweep tries AtOnce of them, in the order of its
// result: within a few sweeps, it must be the last one's turn.
func TestFailuresKeepNoOrphanFromBeingTried(t *testing.T) {
	const last, sweeps = AtOnce, 20
	for range sweeps {
		var result Result
		for i := range AtOnce + 1 {
			result.Found = append(result.Found, Found{Orphan: Orphan{Kind: Entry, ID: strconv.Itoa(i)}, Action: Delete})
		}
		tried := result.Cut().Found[:AtOnce]
		if slices.ContainsFunc(tried, func(f Found) bool { return f.ID == strconv.Itoa(last) }) {
			return
		}
	}
	t.Errorf("in %d sweeps, the orphan that was found after %d others was never tried", sweeps, AtOnce)
}
