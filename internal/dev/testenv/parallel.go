//go:build !race

package testenv

const (
	race = false
	// parallel is how many parallel tests of a process run at once, unless -parallel says otherwise. They
	// spend most of their time waiting for servers.
	parallel = "8"
)
