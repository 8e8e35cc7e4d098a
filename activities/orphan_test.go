package activities_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"go.temporal.io/api/workflowservice/v1"
	"go.temporal.io/sdk/client"

	"narthex/internal/ids"
	"narthex/internal/orphan"
	"narthex/internal/registry"
	"narthex/internal/tenantserver"
	"narthex/migrations"
)

// fakeTemporal is a Temporal that knows only which tenant's signup is running.
type fakeTemporal struct {
	client.Client
	running string
	down    bool
}

func (c *fakeTemporal) CountWorkflow(
	_ context.Context, in *workflowservice.CountWorkflowExecutionsRequest,
) (*workflowservice.CountWorkflowExecutionsResponse, error) {
	if c.down {
		return nil, errors.New("Temporal is down")
	}
	answer := &workflowservice.CountWorkflowExecutionsResponse{}
	if c.running != "" && strings.Contains(in.Query, c.running) {
		answer.Count = 1
	}
	return answer, nil
}

// orphanage runs the two activities of a sweep separately.
type orphanage struct {
	*bundle
	temporal *fakeTemporal
	ahead    atomic.Int64 // of the clock
}

func newOrphanage(t *testing.T) *orphanage {
	t.Helper()
	o := &orphanage{bundle: setup(t), temporal: &fakeTemporal{}}
	o.do.Temporal = o.temporal
	o.do.Now = func() time.Time { return time.Now().Add(time.Duration(o.ahead.Load())) }
	return o
}

// halfMade makes the role, the database and the church's row of a signup, and nothing else.
func (o *orphanage) halfMade() (tenantID string) {
	o.t.Helper()
	d := tenantserver.Database{TenantID: ids.New(), SignupID: ids.New(), Password: "5ecret"}
	if _, err := o.server.Create(o.t.Context(), d, func(context.Context) error { return nil }, nil); err != nil {
		o.t.Fatal(err)
	}
	o.t.Cleanup(func() {
		if err := o.server.Drop(context.WithoutCancel(o.t.Context()), d, func(context.Context) error { return nil }); err != nil {
			o.t.Error(err)
		}
	})
	err := o.do.Registry.InsertChurch(o.t.Context(), registry.Owner{RunID: d.SignupID, TenantID: d.TenantID}, registry.Church{
		Name: "Grace Chapel", Email: d.TenantID + "@example.org", EmailHash: d.TenantID, TrialEndsAt: time.Now(), CreatedAt: time.Now(),
	})
	if err != nil {
		o.t.Fatal(err)
	}
	return d.TenantID
}

func (o *orphanage) find(in orphan.Sweep) []orphan.Found {
	o.t.Helper()
	answer, err := o.env.ExecuteActivity(o.do.FindOrphans, in)
	var result orphan.Result
	if err == nil {
		err = answer.Get(&result)
	}
	if err != nil {
		o.t.Fatal(err)
	}
	return result.Found
}

func (o *orphanage) wantFound(when string, in orphan.Sweep, want ...string) {
	o.t.Helper()
	var got []string
	for _, f := range o.find(in) {
		got = append(got, string(f.Kind)+" "+string(f.Action))
	}
	slices.Sort(got)
	if !slices.Equal(got, want) {
		o.t.Errorf("%s: found %v, want %v", when, got, want)
	}
}

// wantListed compares the registry's record, as `orphans list` reads it.
func (o *orphanage) wantListed(when string, want ...string) {
	o.t.Helper()
	recorded, err := o.do.Registry.Orphans(o.t.Context())
	if err != nil {
		o.t.Fatal(err)
	}
	var got []string
	for _, r := range recorded {
		got = append(got, string(r.Kind)+" "+string(orphan.Judge(r, o.do.Now()).Action))
	}
	slices.Sort(got)
	if !slices.Equal(got, want) {
		o.t.Errorf("%s: the list says %v, want %v", when, got, want)
	}
}

func (o *orphanage) wantRemoved(f orphan.Found, want orphan.Action) {
	o.t.Helper()
	answer, err := o.env.ExecuteActivity(o.do.RemoveOrphan, f.Orphan)
	var got orphan.Action
	if err == nil {
		err = answer.Get(&got)
	}
	if err != nil || got != want {
		o.t.Errorf("remove %s: %s (%v), want %s", f.Kind, got, err, want)
	}
}

// byKind returns the found orphan of a kind.
func byKind(t *testing.T, found []orphan.Found, kind orphan.Kind) orphan.Found {
	t.Helper()
	i := slices.IndexFunc(found, func(f orphan.Found) bool { return f.Kind == kind })
	if i < 0 {
		t.Fatalf("found %v, want one of kind %s", found, kind)
	}
	return found[i]
}

func TestFindOrphansRecordsWhatItSees(t *testing.T) {
	t.Parallel()
	o := newOrphanage(t)
	tenantID := o.halfMade()
	o.temporal.running = tenantID
	o.wantFound("while its signup is running", orphan.Sweep{})
	o.temporal.running = ""
	o.wantFound("a dry run", orphan.Sweep{DryRun: true}, "database wait", "rows wait")
	o.wantListed("after a dry run")
	o.wantFound("a sweep", orphan.Sweep{}, "database wait", "rows wait")
	o.wantListed("after a sweep", "database wait", "rows wait")
	o.wantFound("asked for another", orphan.Sweep{Only: ids.New()})
	o.wantFound("asked for it", orphan.Sweep{Only: tenantID}, "database rename", "rows delete")
	o.ahead.Store(int64(orphan.Grace))
	o.wantListed("after the grace", "database rename", "rows delete")
}

// The list names the action that the next sweep will take. A database whose drop was interrupted, and a role without a
// database, can't be renamed.
func TestTheListNamesTheNextAction(t *testing.T) {
	t.Parallel()
	o := newOrphanage(t)
	tenantID := o.halfMade()
	o.find(orphan.Sweep{})
	o.exec(`UPDATE pg_database SET datconnlimit = -2 WHERE datname = 'tenant_` + tenantID + `'`)
	o.find(orphan.Sweep{}) // it was seen whole before
	o.ahead.Store(int64(orphan.Grace))
	o.wantListed("half dropped, after the grace", "database drop", "rows delete")
	o.exec(`DROP DATABASE tenant_` + tenantID)
	o.find(orphan.Sweep{})
	o.wantListed("a role without a database", "database drop", "rows delete")
}

func TestRemoveOrphanChecksAgain(t *testing.T) {
	t.Parallel()
	o := newOrphanage(t)
	tenantID := o.halfMade()
	found := o.find(orphan.Sweep{})
	for _, f := range found {
		o.wantRemoved(f, orphan.Spare) // it isn't due
	}
	found = o.find(orphan.Sweep{Only: tenantID})
	o.temporal.running = tenantID
	for _, f := range found {
		o.wantRemoved(f, orphan.Spare)
	}
	o.temporal.running = ""
	if err := o.do.Registry.KeepOrphan(t.Context(), tenantID, true); err != nil {
		t.Fatal(err)
	}
	for _, f := range found {
		o.wantRemoved(f, orphan.Spare)
	}
	o.wantFound("kept", orphan.Sweep{Only: tenantID}, "database keep", "rows keep")
	o.temporal.down = true
	if _, err := o.env.ExecuteActivity(o.do.RemoveOrphan, found[0].Orphan); err == nil {
		t.Error("it was removed although nobody could say whether its signup is running")
	}
}

// An orphan that an operator names is removed without the grace period. A renamed database is still dropped only a day later.
func TestRemoveOrphanByHand(t *testing.T) {
	t.Parallel()
	o := newOrphanage(t)
	tenantID := o.halfMade()
	found := o.find(orphan.Sweep{Only: tenantID})
	o.wantRemoved(byKind(t, found, orphan.Rows), orphan.Delete)
	o.wantRemoved(byKind(t, found, orphan.Database), orphan.Rename)
	o.wantFound("asked for it again", orphan.Sweep{Only: tenantID}, "database wait")
	o.ahead.Store(int64(orphan.Quarantine + time.Minute))
	o.wantListed("a day later, by the sweep", "database drop")
	o.wantRemoved(byKind(t, o.find(orphan.Sweep{}), orphan.Database), orphan.Drop)
	o.wantFound("after that", orphan.Sweep{})
	o.wantListed("after that")
}

// Metrics count the orphans that sweeps still find, except those that are kept.
func TestOnlyOrphansOfRecentSweepsAreCounted(t *testing.T) {
	t.Parallel()
	o := newOrphanage(t)
	tenantID := o.halfMade()
	o.find(orphan.Sweep{})
	count := func(now time.Time) int {
		counts, err := o.do.Registry.CountOrphans(t.Context(), now.Add(-orphan.Fresh))
		if err != nil {
			t.Fatal(err)
		}
		return counts[orphan.Database]
	}
	if got := count(time.Now()); got != 1 {
		t.Errorf("after a sweep %d databases are counted, want 1", got)
	}
	if got := count(time.Now().Add(orphan.Fresh + time.Minute)); got != 0 {
		t.Errorf("two days after the last sweep %d databases are counted, want 0", got)
	}
	if err := o.do.Registry.KeepOrphan(t.Context(), tenantID, true); err != nil {
		t.Fatal(err)
	}
	if got := count(time.Now()); got != 0 {
		t.Errorf("%d databases are counted although they are kept, want 0", got)
	}
}

// The registry and the server write a server's address in the same way.
func TestOneServerHasOneName(t *testing.T) {
	t.Parallel()
	o := newOrphanage(t)
	server, err := tenantserver.Open(t.Context(), "postgres://n:5ecret@[::1]:5433/postgres", ids.New(), migrations.Tenant)
	if err != nil {
		t.Fatal(err)
	}
	defer server.Close()
	owner := registry.Owner{RunID: ids.New(), TenantID: ids.New()}
	url, host, port, name := server.Location(tenantserver.Database{TenantID: owner.TenantID})
	for _, err := range []error{
		o.do.Registry.InsertChurch(t.Context(), owner, registry.Church{Name: "Grace Chapel", Email: "pat@example.org", EmailHash: "hash",
			TrialEndsAt: time.Now(), CreatedAt: time.Now()}),
		o.do.Registry.InsertTenant(t.Context(), owner, registry.NewTenant{Name: "Grace Chapel", Email: "pat@example.org", DatabaseURL: url,
			DatabaseHost: host, DatabasePort: port, DatabaseName: name, SchemaVersion: 1, CreatedAt: time.Now()}),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	locations, err := o.do.Registry.Locations(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if got := locations[owner.TenantID].Server(); got != server.Name() {
		t.Errorf("the registry calls the server %s, want %s", got, server.Name())
	}
}

// A scratch database is nobody's orphan. Once it has expired, a sweep drops it.
func TestASweepDropsExpiredScratchDatabases(t *testing.T) {
	t.Parallel()
	o := newOrphanage(t)
	exists := func(name string) (there bool) {
		t.Helper()
		if err := o.admin.QueryRow(t.Context(), `SELECT EXISTS (SELECT FROM pg_roles WHERE rolname = $1)`, name).Scan(&there); err != nil {
			t.Fatal(err)
		}
		return there
	}
	for _, c := range []struct {
		when string
		life time.Duration
		in   orphan.Sweep
		want bool // whether it exists afterwards
	}{
		{"before it has expired", time.Minute, orphan.Sweep{}, true},
		{"a dry run, when it has expired", -time.Second, orphan.Sweep{DryRun: true}, true},
		{"when it has expired", -time.Second, orphan.Sweep{}, false},
	} {
		err := o.server.InScratch(t.Context(), tenantserver.Scratch{Life: c.life, Empty: true}, func(name string) error {
			o.wantFound(c.when, c.in)
			if got := exists(name); got != c.want {
				t.Errorf("%s: after the sweep the scratch database exists: %t, want %t", c.when, got, c.want)
			}
			return nil
		})
		if err != nil {
			t.Errorf("%s: %v", c.when, err)
		}
	}
	o.wantListed("after the sweeps")
}
