// Package loopback recognises requests that are meant for this machine only.
package loopback

import (
	"net"
	"net/netip"
	"strings"
)

// Names reports whether a request's Host names this machine. If it names another host, but arrives at an
// address that only this machine can reach, it is from a page whose name was pointed here (DNS rebinding).
func Names(host string) bool {
	if name, _, err := net.SplitHostPort(host); err == nil {
		host = name
	}
	address, err := netip.ParseAddr(strings.Trim(host, "[]"))
	return host == "localhost" || (err == nil && address.IsLoopback())
}
