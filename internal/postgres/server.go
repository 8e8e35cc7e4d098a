package postgres

import (
	"fmt"
	"net"
	"strconv"
)

// ServerName returns a server's name, which is the same wherever it is stored or shown: host:port, or folder:port if the
// server is reached through a socket.
func ServerName(host string, port int) string { return net.JoinHostPort(host, strconv.Itoa(port)) }

// ParseServerName returns the host, or the folder, and the port in a server's name.
func ParseServerName(name string) (host string, port int, err error) {
	host, portText, err := net.SplitHostPort(name)
	if err == nil {
		port, err = strconv.Atoi(portText)
	}
	if err != nil {
		return "", 0, fmt.Errorf("the server %q is not host:port", name)
	}
	return host, port, nil
}
