// Package loopback tells what is for this machine alone.
package loopback

import (
	"net"
	"net/netip"
	"strings"
)

// Names reports whether a request's Host names this machine. One that names another, and comes all the same
// to an address that only this machine reaches, is from a page whose name was pointed here (DNS rebinding).
func Names(host string) bool {
	if name, _, err := net.SplitHostPort(host); err == nil {
		host = name
	}
	address, err := netip.ParseAddr(strings.Trim(host, "[]"))
	return host == "localhost" || (err == nil && address.IsLoopback())
}
