package process

import (
	"errors"
	"log/slog"
	"net/http"
	"time"

	"narthex/internal/telemetry"
)

// serveOperations starts serving operators before any other part runs. It returns the address, or "" if
// there is none, and a function that stops it.
func serveOperations(c Config, watch *telemetry.Telemetry) (address string, stop func(), err error) {
	if c.OperationsAddress == "" {
		return "", func() {}, nil
	}
	listener, err := listen("operations", c.OperationsAddress)
	if err != nil {
		return "", nil, err
	}
	server := &http.Server{ // no write timeout: a profile takes as long as its caller asks for
		Handler:           watch.Handler(isLoopback(listener)),
		ReadHeaderTimeout: 5 * time.Second,
		IdleTimeout:       2 * time.Minute,
		MaxHeaderBytes:    maxHeader,
		ErrorLog:          slog.NewLogLogger(c.Log.Handler(), slog.LevelWarn),
	}
	go func() {
		if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
			c.Log.Error("The operators' listener has stopped", "error", err.Error())
		}
	}()
	return listener.Addr().String(), func() { server.Close() }, nil
}
