package activities_test

import (
	"testing"

	"narthex/internal/ids"
	"narthex/internal/registry"
	"narthex/internal/saga"
)

func TestCreateDatabase(t *testing.T) {
	t.Parallel()
	setup(t).signups().test("CreateDatabase")
}

// Only a process that keeps databases ready uses them.
func TestCreateDatabaseClaimsOneThatIsReady(t *testing.T) {
	t.Parallel()
	b := setup(t)
	if err := b.server.EnsureTemplate(t.Context()); err != nil {
		t.Fatal(err)
	}
	ready := ids.New()
	if err := b.server.MakeReady(t.Context(), ready); err != nil {
		t.Fatal(err)
	}
	err := b.do.Registry.AddReadyDatabase(t.Context(), registry.ReadyDatabase{
		ID: ready, Server: b.server.Name(), Template: b.server.Template(), SchemaVersion: b.server.SchemaVersion(),
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ size, left int }{{0, 1}, {1, 0}} {
		b.do.ReadyDatabases = c.size
		signups := b.signups()
		in := signups.begin()
		signups.do(2, in)
		signups.wantMade("", "MigrateDatabase", in, true)
		left, err := b.do.Registry.CountReadyDatabases(t.Context(), b.server.Name(), b.server.Template())
		if err != nil || left != c.left {
			t.Errorf("of %d kept ready, %d are left (%v), want %d", c.size, left, err, c.left)
		}
	}
}

// What PostgreSQL would refuse again is not retried.
func TestCreateDatabaseWithoutTheRight(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.exec(`ALTER ROLE ` + b.role + ` NOCREATEDB`)
	signups := b.signups()
	in := signups.begin()
	b.wantFailure("CreateDatabase", in, failure{kind: saga.ErrorDatabase})
	b.want("after a half", "DropDatabase", in, "")
	signups.wantMade("after the rollback", "CreateDatabase", in, false)
}
