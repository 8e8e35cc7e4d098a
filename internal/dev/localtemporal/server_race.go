//go:build race

package localtemporal

import (
	"context"
	"errors"
	"io"
)

// Server replaces the server in race-instrumented builds, which leave it out: compiling it again with
// instrumentation would take long, and tests run it as a separate process.
type Server struct {
	FrontendAddress string
	UIAddress       string
}

var errRace = errors.New("this race-instrumented build contains no Temporal server: build without -race")

// Start only fails here.
func Start(context.Context, Options) (*Server, error) { return nil, errRace }

// RunService only fails here.
func RunService(context.Context, string, io.Reader, io.Writer) error { return errRace }

// Ended returns nil here.
func (s *Server) Ended() <-chan error { return nil }

// Stop does nothing here.
func (s *Server) Stop() {}
