package main

import (
	"context"
	"fmt"
	"log/slog"

	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/log"

	"narthex/cmd/internal/process"
	"narthex/internal/codec"
	"narthex/internal/secrets"
)

// dialTemporal connects to Temporal, and returns its namespace too. Without keys, payloads stay sealed.
func dialTemporal(ctx context.Context, keys *secrets.Keys) (temporal client.Client, namespace string, err error) {
	options, err := process.TemporalOptions()
	if err != nil {
		return nil, "", err
	}
	if keys != nil {
		codec.Seal(&options, keys)
	}
	options.Logger = log.NewStructuredLogger(slog.New(slog.DiscardHandler)) // the command reports errors, once
	temporal, err = client.DialContext(ctx, options)
	if err != nil {
		return nil, "", fmt.Errorf("Temporal at %s does not answer: is it running, and is TEMPORAL_ADDRESS correct? (%w)", options.HostPort, err)
	}
	return temporal, options.Namespace, nil
}
