//go:build race

package temporaldev

import (
	"context"
	"errors"
)

// Server stands for the server in race-instrumented builds, which leave it out: instrumented, its
// compilation takes as long again, and tests run it as a process of its own.
type Server struct {
	FrontendAddress string
	UIAddress       string
}

// Start only fails here.
func Start(context.Context, Options) (*Server, error) {
	return nil, errors.New("this race-instrumented build carries no Temporal server: build without -race")
}

// Stop does nothing here.
func (s *Server) Stop() {}
