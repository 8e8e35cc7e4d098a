package activities

import (
	"context"
	"fmt"
	"maps"
	"slices"

	"narthex/internal/fleet"
	"narthex/internal/redact"
	"narthex/internal/tenantserver"
)

// ProbeCanaries tries the services' own statements in each canary's database, and says in words what doesn't work.
func (a *Activities) ProbeCanaries(ctx context.Context, in fleet.Input) (problems []string, err error) {
	server, err := a.fleetServer(in.Server)
	if err != nil {
		return nil, err
	}
	canaries, err := a.Ledger.Canaries(ctx, in.RunID)
	if err != nil {
		return nil, undo("list the canaries", err)
	}
	for _, canary := range canaries {
		d := tenantserver.Database{TenantID: canary.TenantID, SignupID: canary.SignupID}
		failed, err := server.Probe(ctx, d, a.Statements)
		if err != nil {
			problems = append(problems, fmt.Sprintf("%s: %s", canary.TenantID, redact.Error(err)))
			continue
		}
		for _, name := range slices.Sorted(maps.Keys(failed)) {
			problems = append(problems, fmt.Sprintf("%s: %s", canary.TenantID, redact.Error(failed[name])))
		}
	}
	return problems, nil
}
