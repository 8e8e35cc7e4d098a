//go:build race

package testenv

const (
	race = true
	// parallel is lower with the race detector, because tests then need more processor time themselves.
	parallel = "6"
)
