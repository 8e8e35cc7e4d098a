package systemtest

import (
	"context"
	"slices"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"go.temporal.io/sdk/client"

	"narthex/internal/dev/teststack"
	"narthex/internal/ids"
	"narthex/internal/readydb"
	"narthex/internal/registry"
	"narthex/migrations"
)

// stockUp makes readySize databases ready, as the keeper does.
func stockUp(s *teststack.Stack) {
	s.T.Helper()
	makeTemplate(s)
	for range teststack.ReadySize {
		offer(s, ids.New(), s.Tenants[0].Template(), migrations.TenantVersion())
	}
}

// offer makes a database, and offers it as a copy of a template.
func offer(s *teststack.Stack, id, template string, version int) {
	s.T.Helper()
	server := s.Tenants[0]
	err := server.MakeReady(s.T.Context(), id)
	if err == nil {
		err = s.OpenRegistry().AddReadyDatabase(s.T.Context(), registry.ReadyDatabase{
			ID: id, Server: server.Name(), Template: template, SchemaVersion: version,
		})
	}
	if err != nil {
		s.T.Fatal(err)
	}
}

func inStock(s *teststack.Stack) (n int) {
	s.T.Helper()
	teststack.Row(s.T, s.Registry, `SELECT count(*) FROM database_pool WHERE template = $1`, []any{s.Tenants[0].Template()}, &n)
	return n
}

// readyDatabases returns the ids that the registry offers, and those of the roles and of the databases on the server.
func readyDatabases(s *teststack.Stack) (offered, roles, databases []string) {
	s.T.Helper()
	var installation string
	teststack.Row(s.T, s.Registry, `SELECT installation FROM key_checks`, nil, &installation)
	list := func(from *pgxpool.Pool, sql string, args ...any) []string {
		rows, _ := from.Query(s.T.Context(), sql, args...)
		names, err := pgx.CollectRows(rows, pgx.RowTo[string])
		if err != nil {
			s.T.Fatalf("%s: %v", sql, err)
		}
		return names
	}
	offered = list(s.Registry, `SELECT id FROM database_pool ORDER BY id`)
	roles = list(s.Server, `
		SELECT substr(rolname, 6) FROM pg_roles r
		WHERE rolname LIKE 'pool\_%' AND shobj_description(r.oid, 'pg_authid') = 'narthex pool of ' || $1 ORDER BY 1`, installation)
	databases = list(s.Server, `
		SELECT substr(datname, 6) FROM pg_database d JOIN pg_roles r ON r.oid = d.datdba AND r.rolname = d.datname
		WHERE datname LIKE 'pool\_%' AND NOT datallowconn
		AND shobj_description(r.oid, 'pg_authid') = 'narthex pool of ' || $1 ORDER BY 1`, installation)
	return offered, roles, databases
}

// wantStockConsistent checks that the registry's offers, the roles and the databases are the same.
func wantStockConsistent(s *teststack.Stack) {
	s.T.Helper()
	if offered, roles, databases := readyDatabases(s); !slices.Equal(offered, roles) || !slices.Equal(offered, databases) {
		s.T.Errorf("%v are offered, the roles are %v and the databases %v, want the same", offered, roles, databases)
	}
}

// keepReady keeps databases ready until the test ends.
func keepReady(s *teststack.Stack) {
	s.T.Helper()
	options := client.StartWorkflowOptions{ID: readydb.WorkflowID(s.Queue), TaskQueue: s.Queue}
	run, err := s.Temporal.ExecuteWorkflow(s.T.Context(), options, readydb.Workflow)
	if err != nil {
		s.T.Fatal(err)
	}
	s.T.Cleanup(func() {
		_ = s.Temporal.TerminateWorkflow(context.Background(), run.GetID(), run.GetRunID(), "the test is over")
	})
}

// The stock is filled, and what nobody can use is removed: databases of an older schema, one that a worker was making or
// claiming when it was killed, and the offer of one that is gone. What may still be used stays: databases of a newer
// schema, one that is being made, and one that is offered under another name of the server.
func TestDatabasesAreKeptReady(t *testing.T) {
	t.Parallel()
	s := teststack.New(t)
	makeTemplate(s)
	old, newer, lost, gone, elsewhere, young := ids.New(), ids.New(), ids.New(), ids.New(), ids.New(), ids.New()
	offer(s, old, "tenant_template_v0_older", migrations.TenantVersion()-1)
	offer(s, newer, "tenant_template_v99_newer", 99)
	offer(s, gone, s.Tenants[0].Template(), migrations.TenantVersion())
	s.Exec(`DROP DATABASE pool_` + gone)
	s.Exec(`DROP ROLE pool_` + gone)
	for _, id := range []string{elsewhere, lost, young} {
		if err := s.Tenants[0].MakeReady(t.Context(), id); err != nil {
			t.Fatal(err)
		}
	}
	reg := s.OpenRegistry()
	other := registry.ReadyDatabase{ID: elsewhere, Server: "other-name:5432", Template: "x", SchemaVersion: 1}
	if err := reg.AddReadyDatabase(t.Context(), other); err != nil {
		t.Fatal(err)
	}
	s.Exec(`ALTER DATABASE pool_` + young + ` RENAME TO pool_` + later(young))
	s.Exec(`ALTER ROLE pool_` + young + ` RENAME TO pool_` + later(young))
	s.Clock.Move(readydb.Grace)
	keepReady(s)
	teststack.Eventually(t, "the stock is full", func() bool { return inStock(s) == teststack.ReadySize })

	offered, roles, databases := readyDatabases(s)
	if !slices.Equal(roles, databases) {
		t.Errorf("the roles are %v and the databases %v, want the same", roles, databases)
	}
	for id, want := range map[string][2]bool{
		old: {false, false}, newer: {true, true}, lost: {false, false}, gone: {false, false},
		elsewhere: {true, true}, later(young): {false, true},
	} {
		if got := [2]bool{slices.Contains(offered, id), slices.Contains(databases, id)}; got != want {
			t.Errorf("%s is offered, exists: %v, want %v", id, got, want)
		}
	}
	if got, want := len(databases), teststack.ReadySize+3; got != want {
		t.Errorf("there are %d databases, want %d", got, want)
	}
	wantWhole(s, s.Register(teststack.Applicant()))
	teststack.Eventually(t, "the stock is full again", func() bool { return inStock(s) == teststack.ReadySize })
}

// later returns an id with a time in the far future.
func later(id string) string { return "7" + id[1:] }

// A database that belongs to somebody else cannot be dropped.
func TestAFailedDropDoesNotStopFilling(t *testing.T) {
	t.Parallel()
	s := teststack.New(t)
	makeTemplate(s)
	lost := ids.New()
	if err := s.Tenants[0].MakeReady(t.Context(), lost); err != nil {
		t.Fatal(err)
	}
	s.Exec(`ALTER DATABASE pool_` + lost + ` OWNER TO CURRENT_USER`)
	s.Clock.Move(readydb.Grace)
	keepReady(s)
	teststack.Eventually(t, "the stock is full", func() bool { return inStock(s) == teststack.ReadySize })
}

// TestManySignUpFromASmallStock runs more signups at once than there are ready databases. Each gets its own database.
func TestManySignUpFromASmallStock(t *testing.T) {
	t.Parallel()
	s := teststack.New(t)
	stockUp(s)
	var bodies []map[string]any
	for range 2 * teststack.ReadySize {
		bodies = append(bodies, teststack.Applicant())
	}
	if got := storm(s, bodies); got[201] != len(bodies) {
		t.Errorf("statuses %v, want %d × 201", got, len(bodies))
	}
	if offered, roles, databases := readyDatabases(s); len(offered)+len(roles)+len(databases) != 0 {
		t.Errorf("%v, %v, %v are left, want the stock empty", offered, roles, databases)
	}
	var databases int
	teststack.Row(t, s.Registry, `SELECT count(DISTINCT database_name) FROM tenants`, nil, &databases)
	if databases != len(bodies) {
		t.Errorf("%d churches have %d databases", len(bodies), databases)
	}
}

// TestAWorkerKilledBetweenClaimAndRename leaves a database that is neither offered nor a tenant's. The signup gets another
// one, and the keeper drops the lost one when it is old enough.
func TestAWorkerKilledBetweenClaimAndRename(t *testing.T) {
	t.Parallel()
	s := teststack.New(t)
	stockUp(s)
	lost, err := s.OpenRegistry().ClaimReadyDatabase(t.Context(), s.Tenants[0].Name(), s.Tenants[0].Template()) // and no more
	if err != nil || lost == "" {
		t.Fatalf("claim: %q, %v", lost, err)
	}
	wantWhole(s, s.Register(teststack.Applicant()))
	wantDatabases(s, lost, "pool_"+lost, "role pool_"+lost)
	s.Clock.Move(readydb.Grace)
	keepReady(s)
	teststack.Eventually(t, "the lost database is dropped", func() bool { return len(databases(s, lost)) == 0 })
}
