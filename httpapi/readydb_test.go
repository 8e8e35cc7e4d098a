package httpapi_test

import (
	"context"
	"slices"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"go.temporal.io/sdk/client"

	"narthex/internal/ids"
	"narthex/internal/readydb"
	"narthex/internal/registry"
	"narthex/migrations"
)

// readySize is how many databases a stack's workers keep ready. None are made unless a test says so.
const readySize = 3

// stockUp makes readySize databases ready, as the keeper does.
func (s *stack) stockUp() {
	s.t.Helper()
	s.makeTemplate()
	for range readySize {
		s.offer(ids.New(), s.tenants[0].Template(), migrations.TenantVersion())
	}
}

// offer makes a database, and offers it as a copy of a template.
func (s *stack) offer(id, template string, version int) {
	s.t.Helper()
	server := s.tenants[0]
	err := server.MakeReady(s.t.Context(), id)
	if err == nil {
		err = s.openRegistry().AddReadyDatabase(s.t.Context(), registry.ReadyDatabase{
			ID: id, Server: server.Name(), Template: template, SchemaVersion: version,
		})
	}
	if err != nil {
		s.t.Fatal(err)
	}
}

func (s *stack) inStock() (n int) {
	s.t.Helper()
	row(s.t, s.registry, `SELECT count(*) FROM database_pool WHERE template = $1`, []any{s.tenants[0].Template()}, &n)
	return n
}

// readyDatabases are the ids that are offered, and those that have a role, and a database, on the server.
func (s *stack) readyDatabases() (offered, roles, databases []string) {
	s.t.Helper()
	var installation string
	row(s.t, s.registry, `SELECT installation FROM key_checks`, nil, &installation)
	list := func(from *pgxpool.Pool, sql string, args ...any) []string {
		rows, _ := from.Query(s.t.Context(), sql, args...)
		names, err := pgx.CollectRows(rows, pgx.RowTo[string])
		if err != nil {
			s.t.Fatalf("%s: %v", sql, err)
		}
		return names
	}
	offered = list(s.registry, `SELECT id FROM database_pool ORDER BY id`)
	roles = list(s.server, `
		SELECT substr(rolname, 6) FROM pg_roles r
		WHERE rolname LIKE 'pool\_%' AND shobj_description(r.oid, 'pg_authid') = 'narthex pool of ' || $1 ORDER BY 1`, installation)
	databases = list(s.server, `
		SELECT substr(datname, 6) FROM pg_database d JOIN pg_roles r ON r.oid = d.datdba AND r.rolname = d.datname
		WHERE datname LIKE 'pool\_%' AND NOT datallowconn
		AND shobj_description(r.oid, 'pg_authid') = 'narthex pool of ' || $1 ORDER BY 1`, installation)
	return offered, roles, databases
}

// wantStockWhole checks that every ready database is offered and has its role, and that nothing else is.
func (s *stack) wantStockWhole() {
	s.t.Helper()
	if offered, roles, databases := s.readyDatabases(); !slices.Equal(offered, roles) || !slices.Equal(offered, databases) {
		s.t.Errorf("%v are offered, and there are the roles of %v and the databases of %v, want the same", offered, roles, databases)
	}
}

// keepReady keeps databases ready until the test ends.
func (s *stack) keepReady() {
	s.t.Helper()
	options := client.StartWorkflowOptions{ID: readydb.WorkflowID(s.queue), TaskQueue: s.queue}
	run, err := s.temporal.ExecuteWorkflow(s.t.Context(), options, readydb.Workflow)
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() {
		_ = s.temporal.TerminateWorkflow(context.Background(), run.GetID(), run.GetRunID(), "the test is over")
	})
}

// The stock is filled, and what nobody can use is removed: databases of an older schema, one that a worker was making or
// claiming when it was killed, and the offer of one that is gone. What may still be used stays: a newer schema's, one
// that is being made, and one that is offered under another name of the server.
func TestDatabasesAreKeptReady(t *testing.T) {
	t.Parallel()
	s := newStack(t)
	s.makeTemplate()
	old, newer, lost, gone, elsewhere, young := ids.New(), ids.New(), ids.New(), ids.New(), ids.New(), ids.New()
	s.offer(old, "tenant_template_v0_older", migrations.TenantVersion()-1)
	s.offer(newer, "tenant_template_v99_newer", 99)
	s.offer(gone, s.tenants[0].Template(), migrations.TenantVersion())
	s.exec(`DROP DATABASE pool_` + gone)
	s.exec(`DROP ROLE pool_` + gone)
	for _, id := range []string{elsewhere, lost, young} {
		if err := s.tenants[0].MakeReady(t.Context(), id); err != nil {
			t.Fatal(err)
		}
	}
	reg := s.openRegistry()
	other := registry.ReadyDatabase{ID: elsewhere, Server: "other-name:5432", Template: "x", SchemaVersion: 1}
	if err := reg.AddReadyDatabase(t.Context(), other); err != nil {
		t.Fatal(err)
	}
	s.exec(`ALTER DATABASE pool_` + young + ` RENAME TO pool_` + later(young))
	s.exec(`ALTER ROLE pool_` + young + ` RENAME TO pool_` + later(young))
	s.clock.move(readydb.Grace)
	s.keepReady()
	eventually(t, "the stock is full", func() bool { return s.inStock() == readySize })

	offered, roles, databases := s.readyDatabases()
	if !slices.Equal(roles, databases) {
		t.Errorf("there are the roles of %v and the databases of %v, want the same", roles, databases)
	}
	for id, want := range map[string][2]bool{
		old: {false, false}, newer: {true, true}, lost: {false, false}, gone: {false, false},
		elsewhere: {true, true}, later(young): {false, true},
	} {
		if got := [2]bool{slices.Contains(offered, id), slices.Contains(databases, id)}; got != want {
			t.Errorf("%s is offered, is there: %v, want %v", id, got, want)
		}
	}
	if got, want := len(databases), readySize+3; got != want {
		t.Errorf("there are %d databases, want %d", got, want)
	}
	s.wantWhole(s.register(applicant()))
	eventually(t, "the stock is full again", func() bool { return s.inStock() == readySize })
}

// later is an id of the same form with a time that no clock has reached.
func later(id string) string { return "7" + id[1:] }

// A database that belongs to somebody else cannot be dropped.
func TestWhatCannotBeDroppedDoesNotStopTheMaking(t *testing.T) {
	t.Parallel()
	s := newStack(t)
	s.makeTemplate()
	lost := ids.New()
	if err := s.tenants[0].MakeReady(t.Context(), lost); err != nil {
		t.Fatal(err)
	}
	s.exec(`ALTER DATABASE pool_` + lost + ` OWNER TO CURRENT_USER`)
	s.clock.move(readydb.Grace)
	s.keepReady()
	eventually(t, "the stock is full", func() bool { return s.inStock() == readySize })
}

// TestManySignUpFromASmallStock has more sign up at once than there are databases: each gets one of its own.
func TestManySignUpFromASmallStock(t *testing.T) {
	t.Parallel()
	s := newStack(t)
	s.stockUp()
	var bodies []map[string]any
	for range 2 * readySize {
		bodies = append(bodies, applicant())
	}
	if got := s.storm(bodies); got[201] != len(bodies) {
		t.Errorf("statuses %v, want %d × 201", got, len(bodies))
	}
	if offered, roles, databases := s.readyDatabases(); len(offered)+len(roles)+len(databases) != 0 {
		t.Errorf("%v, %v, %v are left, want the stock empty", offered, roles, databases)
	}
	var databases int
	row(t, s.registry, `SELECT count(DISTINCT database_name) FROM tenants`, nil, &databases)
	if databases != len(bodies) {
		t.Errorf("%d churches have %d databases", len(bodies), databases)
	}
}

// TestAWorkerKilledBetweenClaimAndRename leaves a database that nobody offers and no tenant has: the keeper drops
// it when it is old enough, and the signup has had another.
func TestAWorkerKilledBetweenClaimAndRename(t *testing.T) {
	t.Parallel()
	s := newStack(t)
	s.stockUp()
	lost, err := s.openRegistry().ClaimReadyDatabase(t.Context(), s.tenants[0].Name(), s.tenants[0].Template()) // and no more
	if err != nil || lost == "" {
		t.Fatalf("claim: %q, %v", lost, err)
	}
	s.wantWhole(s.register(applicant()))
	s.wantDatabases(lost, "pool_"+lost, "role pool_"+lost)
	s.clock.move(readydb.Grace)
	s.keepReady()
	eventually(t, "the lost database is dropped", func() bool { return len(s.databases(lost)) == 0 })
}
