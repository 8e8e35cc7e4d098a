package activities

import (
	"context"
	"slices"
	"time"

	"go.temporal.io/sdk/activity"

	"narthex/internal/invitation"
	"narthex/internal/orphan"
	"narthex/internal/registry"
	"narthex/internal/signup"
	"narthex/internal/tenantserver"
)

// FindOrphans searches all servers and the registry for what belongs to no church and no running signup, records when
// each orphan was seen, and says what to do with it. It drops expired scratch databases at once. Idempotent.
func (a *Activities) FindOrphans(ctx context.Context, sweep orphan.Sweep) (orphan.Result, error) {
	result, err := a.findOrphans(ctx, sweep)
	return result, undo("find orphans", err)
}

func (a *Activities) findOrphans(ctx context.Context, sweep orphan.Sweep) (orphan.Result, error) {
	search, err := a.searchAll(ctx)
	if err != nil {
		return orphan.Result{}, err
	}
	orphans, err := a.withoutOwner(ctx, search.suspects)
	if err != nil {
		return orphan.Result{}, err
	}
	now := a.Now()
	if !sweep.DryRun {
		if err := a.Registry.Sight(ctx, orphans, search.searched, now); err != nil {
			return orphan.Result{}, err
		}
		a.dropExpiredScratch(ctx, search.searched)
	}
	recorded, err := a.Registry.Orphans(ctx)
	if err != nil {
		return orphan.Result{}, err
	}
	orphan.Recall(orphans, recorded, now)
	result := orphan.Result{Unreachable: search.unreachable}
	for _, o := range orphans {
		if sweep.Only != "" && o.ID != sweep.Only {
			continue
		}
		o.SkipGrace = sweep.Only != ""
		result.Found = append(result.Found, orphan.Judge(o, now))
	}
	return result.Cut(), nil
}

// search is the result of a search of the registry and all servers.
type search struct {
	suspects    []orphan.Orphan
	searched    []string // servers, by name
	unreachable []string
}

// searchAll searches the registry and every server. A server that doesn't answer is left to the next sweep.
func (a *Activities) searchAll(ctx context.Context) (found search, err error) {
	found.suspects, err = a.Registry.Suspects(ctx)
	if err != nil {
		return found, err
	}
	locations, err := a.Registry.Locations(ctx)
	if err != nil {
		return found, err
	}
	for _, server := range a.servers() {
		suspects, err := suspectsOn(ctx, server, locations)
		if err != nil {
			activity.GetLogger(ctx).Warn("A server could not be searched for orphans", "server", server.Name(), "error", describe(err))
			found.unreachable = append(found.unreachable, server.Name())
			continue
		}
		found.searched = append(found.searched, server.Name())
		found.suspects = append(found.suspects, suspects...)
	}
	return found, nil
}

func (a *Activities) servers() []*tenantserver.Server {
	return append([]*tenantserver.Server{a.Server}, a.Others...)
}

// serverNamed returns the server with this name, nil if this worker knows none.
func (a *Activities) serverNamed(name string) *tenantserver.Server {
	for _, server := range a.servers() {
		if server.Name() == name {
			return server
		}
	}
	return nil
}

// serverLimit keeps a server that hangs from delaying the search of the others.
const serverLimit = time.Minute

// suspectsOn returns a server's databases that belong to no open church in the registry, and the open churches whose
// database is missing on the server.
func suspectsOn(ctx context.Context, server *tenantserver.Server, locations map[string]registry.Location) ([]orphan.Orphan, error) {
	ctx, cancel := context.WithTimeout(ctx, serverLimit)
	defer cancel()
	made, err := server.Made(ctx)
	if err != nil {
		return nil, err
	}
	names, err := server.Names(ctx)
	if err != nil {
		return nil, err
	}
	var suspects []orphan.Orphan
	for _, m := range made {
		if !locations[m.TenantID].Open() {
			suspects = append(suspects, orphan.Orphan{Kind: orphan.Database, Server: server.Name(), ID: m.TenantID, TenantID: m.TenantID,
				SignupID: m.SignupID, HalfDropped: m.HalfDropped || !m.Exists})
		}
	}
	for _, location := range locations {
		if location.Server() == server.Name() && location.Open() && !names[location.DatabaseName] {
			suspects = append(suspects, orphan.Orphan{Kind: orphan.Tenant, Server: server.Name(), ID: location.ID, TenantID: location.ID})
		}
	}
	return suspects, nil
}

// dropExpiredScratch drops what killed processes have left on the servers that answer. What can't be dropped waits for
// the next sweep.
func (a *Activities) dropExpiredScratch(ctx context.Context, servers []string) {
	for _, server := range a.servers() {
		if !slices.Contains(servers, server.Name()) {
			continue
		}
		ctx, cancel := context.WithTimeout(ctx, serverLimit)
		err := server.DropExpiredScratch(ctx)
		cancel()
		if err != nil {
			activity.GetLogger(ctx).Warn("Scratch databases that have expired could not be dropped", "server", server.Name(), "error", describe(err))
		}
	}
}

// isRunning reports whether a saga is running that may have made a suspect.
func (a *Activities) isRunning(ctx context.Context, o orphan.Orphan) (bool, error) {
	switch o.Kind {
	case orphan.Tenant:
		return false, nil
	case orphan.Entry:
		return invitation.Kind.Running(ctx, a.Temporal, o.TenantID)
	}
	return signup.Kind.Running(ctx, a.Temporal, o.TenantID)
}

// withoutOwner returns the suspects that belong to no running saga and to no open church. It checks for the church
// after the saga, because a signup may have completed in between.
func (a *Activities) withoutOwner(ctx context.Context, suspects []orphan.Orphan) ([]orphan.Orphan, error) {
	var orphans []orphan.Orphan
	for _, o := range suspects {
		running, err := a.isRunning(ctx, o)
		if err != nil {
			return nil, err
		}
		if !running {
			orphans = append(orphans, o)
		}
	}
	locations, err := a.Registry.Locations(ctx)
	if err != nil {
		return nil, err
	}
	return slices.DeleteFunc(orphans, func(o orphan.Orphan) bool {
		return locations[o.TenantID].Open() && (o.Kind == orphan.Database || o.Kind == orphan.Rows)
	}), nil
}
