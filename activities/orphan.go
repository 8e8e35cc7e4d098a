package activities

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"go.temporal.io/api/workflowservice/v1"
	"go.temporal.io/sdk/activity"

	"narthex/internal/orphan"
	"narthex/internal/registry"
	"narthex/internal/signup"
	"narthex/internal/tenantserver"
)

// FindOrphans looks through all servers and the registry for what belongs to no church and no signup that is
// under way, records when it was first seen, and says what is to be done with it. Idempotent.
func (a *Activities) FindOrphans(ctx context.Context, sweep orphan.Sweep) (orphan.Result, error) {
	result, err := a.findOrphans(ctx, sweep)
	return result, undo("find orphans", err)
}

func (a *Activities) findOrphans(ctx context.Context, sweep orphan.Sweep) (result orphan.Result, err error) {
	suspects, err := a.Registry.Suspects(ctx)
	if err != nil {
		return result, err
	}
	places, err := a.Registry.Places(ctx)
	if err != nil {
		return result, err
	}
	var searched []string
	for _, server := range a.servers() {
		found, err := suspectsOn(ctx, server, places)
		if err != nil { // what is there is looked at when it answers again
			activity.GetLogger(ctx).Warn("A server could not be searched for orphans", "server", server.Name(), "error", describe(err))
			result.Unreachable = append(result.Unreachable, server.Name())
			continue
		}
		searched = append(searched, server.Name())
		suspects = append(suspects, found...)
	}
	orphans, err := a.withoutOwner(ctx, suspects)
	if err != nil {
		return result, err
	}
	now := a.Now()
	if !sweep.DryRun {
		if err := a.Registry.Sight(ctx, orphans, searched, now); err != nil {
			return result, err
		}
	}
	if orphans, err = a.withRecord(ctx, orphans, now); err != nil {
		return result, err
	}
	for _, o := range orphans {
		result.Found = append(result.Found, orphan.Found{Orphan: o, Action: o.Due(now)})
	}
	return result.Cut(), nil
}

func (a *Activities) servers() []*tenantserver.Server {
	return append([]*tenantserver.Server{a.Server}, a.Others...)
}

// serverLimit keeps one server that hangs from holding up the search of the others.
const serverLimit = time.Minute

// suspectsOn returns what a server has, or lacks, of churches that the registry does not, or does, have open.
func suspectsOn(ctx context.Context, server *tenantserver.Server, places map[string]registry.Place) (suspects []orphan.Orphan, err error) {
	ctx, cancel := context.WithTimeout(ctx, serverLimit)
	defer cancel()
	made, err := server.Made(ctx)
	if err != nil {
		return nil, err
	}
	for _, m := range made {
		if place, ok := places[m.TenantID]; !ok || !place.Open() {
			suspects = append(suspects, orphan.Orphan{Kind: orphan.Database, Server: server.Name(), ID: m.TenantID, TenantID: m.TenantID,
				SignupID: m.SignupID, HalfDropped: m.HalfDropped || !m.Exists})
		}
	}
	names, err := server.Names(ctx)
	if err != nil {
		return nil, err
	}
	for _, place := range places {
		if place.Server == server.Name() && place.Open() && !names[place.DatabaseName] {
			suspects = append(suspects, orphan.Orphan{Kind: orphan.Tenant, Server: server.Name(), ID: place.ID, TenantID: place.ID})
		}
	}
	return suspects, nil
}

// withoutOwner returns the suspects that belong to no signup under way and, looked at again after that, to no
// open church: a signup may have ended well between the looks.
func (a *Activities) withoutOwner(ctx context.Context, suspects []orphan.Orphan) (orphans []orphan.Orphan, err error) {
	for _, o := range suspects {
		running := false
		if o.Kind == orphan.Database || o.Kind == orphan.Rows {
			if running, err = signupRuns(ctx, o.TenantID); err != nil {
				return nil, err
			}
		}
		if !running {
			orphans = append(orphans, o)
		}
	}
	places, err := a.Registry.Places(ctx)
	if err != nil {
		return nil, err
	}
	return slices.DeleteFunc(orphans, func(o orphan.Orphan) bool {
		place, ok := places[o.TenantID]
		return ok && place.Open() && (o.Kind == orphan.Database || o.Kind == orphan.Rows)
	}), nil
}

// signupRuns reports whether a signup of the tenant is under way.
func signupRuns(ctx context.Context, tenantID string) (bool, error) {
	count, err := activity.GetClient(ctx).CountWorkflow(ctx, &workflowservice.CountWorkflowExecutionsRequest{
		Query: fmt.Sprintf("WorkflowType = '%s' AND TenantId = '%s' AND ExecutionStatus = 'Running'", signup.Workflow, tenantID),
	})
	if err != nil {
		return false, fmt.Errorf("look for a running signup: %w", err)
	}
	return count.Count > 0, nil
}

// withRecord adds what the registry has recorded of orphans; of those it has not, that they are seen now.
func (a *Activities) withRecord(ctx context.Context, orphans []orphan.Orphan, now time.Time) ([]orphan.Orphan, error) {
	recorded, err := a.Registry.Orphans(ctx)
	if err != nil {
		return nil, err
	}
	type key struct {
		kind       orphan.Kind
		server, id string
	}
	records := make(map[key]orphan.Orphan, len(recorded))
	for _, r := range recorded {
		records[key{r.Kind, r.Server, r.ID}] = r
	}
	for i := range orphans {
		o := &orphans[i]
		o.FirstSeenAt = now
		if r, ok := records[key{o.Kind, o.Server, o.ID}]; ok {
			o.FirstSeenAt, o.RenamedAt, o.Kept = r.FirstSeenAt, r.RenamedAt, r.Kept
		}
	}
	return orphans, nil
}

// RemoveOrphan does with an orphan what is due, unless it is none any more, and says what it did. Idempotent.
func (a *Activities) RemoveOrphan(ctx context.Context, o orphan.Orphan) (orphan.Action, error) {
	due := o.Due(a.Now())
	err := a.removeOrphan(ctx, o, due)
	if errors.Is(err, errSpared) || errors.Is(err, registry.ErrCommitted) || errors.Is(err, tenantserver.ErrNotOwned) || errors.Is(err, tenantserver.ErrInUse) {
		return orphan.Spare, nil
	}
	return due, undo(string(due)+" orphan", err)
}

var errSpared = errors.New("it is no orphan any more, or is to be kept")

func (a *Activities) removeOrphan(ctx context.Context, o orphan.Orphan, due orphan.Action) error {
	switch {
	case due == orphan.Rename || due == orphan.Drop:
		return a.removeDatabase(ctx, o, due)
	case due != orphan.Delete:
		return errSpared
	}
	if err := a.secondLook(ctx, o); err != nil {
		return err
	}
	remove := func() error { return a.Registry.DeleteEntry(ctx, o.ID) }
	if o.Kind == orphan.Rows {
		remove = func() error {
			return a.Registry.DeleteRows(ctx, registry.Owner{SignupID: o.SignupID, TenantID: o.TenantID})
		}
	}
	if err := remove(); err != nil {
		return err
	}
	return a.Registry.ForgetOrphan(ctx, o)
}

// removeDatabase renames a database or drops it, having looked again under the tenant's lock, and forbidden
// its signup to make anything more.
func (a *Activities) removeDatabase(ctx context.Context, o orphan.Orphan, due orphan.Action) error {
	i := slices.IndexFunc(a.servers(), func(s *tenantserver.Server) bool { return s.Name() == o.Server })
	if i < 0 {
		return errSpared
	}
	server, database := a.servers()[i], tenantserver.Database{TenantID: o.TenantID, SignupID: o.SignupID}
	permit := func(ctx context.Context) error {
		if err := a.secondLook(ctx, o); err != nil {
			return err
		}
		return a.Registry.TombstoneOrphan(ctx, registry.Owner{SignupID: o.SignupID, TenantID: o.TenantID})
	}
	if due == orphan.Rename {
		if err := server.Rename(ctx, database, permit); err != nil {
			return err
		}
		return a.Registry.OrphanRenamed(ctx, o, a.Now())
	}
	if err := server.DropRenamed(ctx, database, permit); err != nil {
		return err
	}
	return a.Registry.ForgetOrphan(ctx, o)
}

// secondLook returns errSpared where an operator has said to keep it meanwhile, or a signup has begun.
func (a *Activities) secondLook(ctx context.Context, o orphan.Orphan) error {
	kept, err := a.Registry.OrphanKept(ctx, o)
	if err != nil {
		return err
	}
	running, err := signupRuns(ctx, o.TenantID)
	if err != nil {
		return err
	}
	if kept || running {
		return errSpared
	}
	return nil
}
