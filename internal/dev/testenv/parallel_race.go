//go:build race

package testenv

const (
	race = true
	// parallel is lower with the race detector, with which tests wait for themselves too.
	parallel = "6"
)
