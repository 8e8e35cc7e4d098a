package process

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"syscall"
	"time"

	"narthex/internal/config"
)

const (
	maxHeader   = 16 << 10         // bytes of a request's header
	readTimeout = 30 * time.Second // for a request with its body
)

func listen(what string, address config.Address) (net.Listener, error) {
	listener, err := net.Listen("tcp", string(address))
	if errors.Is(err, syscall.EADDRINUSE) {
		return nil, fmt.Errorf("the %s address %s is taken: stop what uses it, or choose another", what, address)
	}
	if err != nil {
		return nil, fmt.Errorf("cannot listen on the %s address %s: choose another", what, address)
	}
	return listener, nil
}

func isLoopback(listener net.Listener) bool {
	address, ok := listener.Addr().(*net.TCPAddr)
	return ok && address.IP.IsLoopback()
}

func newServer(handler http.Handler, c Config) *http.Server {
	return &http.Server{
		Handler:           handler,
		ReadHeaderTimeout: 5 * time.Second,
		ReadTimeout:       readTimeout,
		WriteTimeout:      readTimeout + time.Duration(c.SignupWait) + 6*answerLimit, // it starts with the header
		IdleTimeout:       2 * time.Minute,
		MaxHeaderBytes:    maxHeader,
		ErrorLog:          slog.NewLogLogger(c.Log.Handler(), slog.LevelWarn),
	}
}
