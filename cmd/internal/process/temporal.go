package process

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"
	"time"

	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/contrib/envconfig"
	"go.temporal.io/sdk/log"

	"narthex/internal/codec"
	"narthex/internal/runs"
)

const preparedPause = 10 * time.Second // between looks at Temporal's namespace

// TemporalOptions returns how to reach Temporal, from TEMPORAL_ADDRESS and the like.
func TemporalOptions() (client.Options, error) {
	options, err := envconfig.LoadDefaultClientOptions()
	if err != nil {
		return client.Options{}, fmt.Errorf("the Temporal client's configuration (TEMPORAL_…) is not valid: %w", err)
	}
	if options.HostPort == "" {
		return client.Options{}, errors.New("TEMPORAL_ADDRESS is not set: it is Temporal's address, like 127.0.0.1:7233")
	}
	if !isTarget(options.HostPort) {
		return client.Options{}, fmt.Errorf("TEMPORAL_ADDRESS is not a host and a port like 127.0.0.1:7233: %.100q", options.HostPort)
	}
	if options.Namespace == "" {
		options.Namespace = client.DefaultNamespace
	}
	return options, nil
}

// isTarget reports whether a gRPC target ends with host:port. A resolver may precede them: dns:///host:port.
func isTarget(target string) bool {
	_, port, err := net.SplitHostPort(target[strings.LastIndex(target, "/")+1:])
	if err != nil {
		return false
	}
	number, err := strconv.ParseUint(port, 10, 16)
	return err == nil && number > 0
}

// openTemporal returns a client that connects when it is first used.
func (p *process) openTemporal() (client.Client, error) {
	options := p.Temporal
	options.Logger = log.NewStructuredLogger(p.Log)
	codec.Seal(&options, p.keys)
	if err := p.watch.Instrument(&options); err != nil {
		return nil, fmt.Errorf("the Temporal client cannot be traced: %w", err)
	}
	temporal, err := client.NewLazyClient(options)
	if err != nil {
		return nil, fmt.Errorf("the Temporal client cannot be created: %w", err)
	}
	return temporal, nil
}

// watchNamespace logs when search attributes are missing, and when they are there again, until ctx ends. Nothing else in
// the log would say why nobody can sign up.
func (p *process) watchNamespace(ctx context.Context) {
	for lacking := false; ; {
		attempt, cancel := context.WithTimeout(ctx, temporalLimit)
		err := runs.Ready(attempt, p.temporal)
		cancel()
		switch missing := errors.Is(err, runs.ErrNotPrepared); {
		case missing && !lacking:
			lacking = true
			p.Log.Warn("Signups and invitations cannot start", "error", err.Error())
		case err == nil && lacking:
			lacking = false
			p.Log.Info("Signups and invitations can start")
		}
		if !pause(ctx, preparedPause) {
			return
		}
	}
}
