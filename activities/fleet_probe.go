package activities

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"

	"narthex/internal/fleet"
	"narthex/internal/fleet/ledger"
	"narthex/internal/redact"
	"narthex/internal/tenantserver"
)

// ProbeCanaries describes the canaries' problems: statements of the services that their databases refuse, and more failed
// requests than before.
func (a *Activities) ProbeCanaries(ctx context.Context, in fleet.Watch) (problems []string, err error) {
	defer keepBeating(ctx)()
	server, err := a.fleetServer(in.Server)
	if err != nil {
		return nil, err
	}
	canaries, err := a.Ledger.Canaries(ctx, in.RunID, in.ResumedAt)
	if err != nil {
		return nil, undo("list the canaries", err)
	}
	since := "its change"
	if !in.ResumedAt.IsZero() {
		since = "the run was resumed"
	}
	for _, canary := range canaries {
		refused, err := a.probe(ctx, server, canary)
		if err != nil {
			return nil, undo("reach the server", err)
		}
		problems = append(problems, refused...)
		if canary.FailedSince > canary.FailedBefore {
			problems = append(problems, fmt.Sprintf("%s: %d requests failed since %s, %d before",
				canary.TenantID, canary.FailedSince, since, canary.FailedBefore))
		}
	}
	return problems, nil
}

// probe says which statements a canary's database refuses. It fails if the server or the registry is down, which says nothing
// about the canary.
func (a *Activities) probe(ctx context.Context, server *tenantserver.Server, canary ledger.Canary) (problems []string, err error) {
	d, err := a.churchDatabase(ctx, canary.TenantID, canary.SignupID)
	if errors.Is(err, tenantserver.ErrGone) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	refused, err := server.Probe(ctx, d, a.Statements)
	if isDown(ctx, server, err) {
		return nil, err
	}
	if err != nil {
		return []string{canary.TenantID + ": " + redact.Error(err)}, nil
	}
	for _, name := range slices.Sorted(maps.Keys(refused)) {
		problems = append(problems, canary.TenantID+": "+redact.Error(refused[name]))
	}
	return problems, nil
}
