//go:build race

package testenv

// parallel is lower with the race detector, with which tests wait for themselves.
const parallel = "4"
