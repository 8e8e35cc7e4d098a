//go:build !race

package testenv

const (
	race = false
	// parallel is how many parallel tests of a process run at once, unless -parallel says otherwise: most
	// of their time they wait for servers.
	parallel = "8"
)
