package activities_test

import (
	"context"
	"encoding/json"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	"narthex/internal/dev/testenv"
	"narthex/internal/ids"
	"narthex/internal/saga"
	"narthex/internal/signup"
	"narthex/internal/sqlstate"
	"narthex/internal/tenantserver"
)

// kind is a kind of saga whose steps are tested separately.
type kind[In any] struct {
	*bundle
	steps []saga.Step
	begin func() In      // the input of a new run
	again func(in In) In // the same input in another run, as in a replay
	makes map[string]makes
	ids   func(in In) (tenantID, id string)
}

// makes is what a step makes.
type makes struct {
	where where
	count string // a query with the run's id
	whole int    // what it counts when everything exists
}

type where string

const (
	databasePassword = "5ecret"
	noRole           = "28P01"
)

const (
	onServer   where = "on the server"
	inRegistry where = "in the registry"
	inTenant   where = "in the tenant's database"
)

// test checks the rules that apply to every step. It runs the steps before it first.
func (k kind[In]) test(name string) {
	k.t.Helper()
	i := slices.IndexFunc(k.steps, func(s saga.Step) bool { return s.Do == name })
	step, in := k.steps[i], k.begin()
	k.do(i, in)
	k.want("with nothing there", step.Undo, k.begin(), "")
	early := k.begin()
	k.do(min(i, 1), early) // of a signup: a database without tables
	k.want("with only the first step done", step.Undo, early, "")
	k.wantMade("before it is done", name, in, false)
	for _, when := range []string{"the first time", "the second time"} {
		k.want(when, step.Do, in, "")
		k.wantMade(when, name, in, true)
	}
	k.want("for another run", step.Do, k.again(in), saga.ErrorNotOwned)
	k.want("for another run", step.Undo, k.again(in), "")
	k.wantMade("after another run's attempt and rollback", name, in, true)
	for _, when := range []string{"the first time", "the second time"} {
		k.want(when, step.Undo, in, "")
		k.wantMade("after the rollback, "+when, name, in, false)
	}
	k.want("after the rollback", step.Do, in, saga.ErrorUndone)
	k.wantMade("after a late attempt", name, in, false)
	for _, earlier := range slices.Backward(k.steps[:i]) {
		k.want("after that of a later step", earlier.Undo, in, "")
	}
	replay := k.again(in)
	k.do(i+1, replay)
	k.wantMade("after a replay", name, in, true)
	k.want("late", step.Undo, in, "")
	k.wantMade("after a late compensation of the first run", name, in, true)
}

// do does the first steps.
func (k kind[In]) do(steps int, in In) {
	k.t.Helper()
	for _, step := range k.steps[:steps] {
		k.want("before a later step", step.Do, in, "")
	}
}

func (k kind[In]) wantMade(when, step string, in In, there bool) {
	k.t.Helper()
	makes, want := k.makes[step], 0
	if there {
		want = makes.whole
	}
	tenantID, id := k.ids(in)
	if got := k.count(makes, tenantID, id); got != want {
		k.t.Errorf("%s, %d of what %s makes is %s, want %d", when, got, step, makes.where, want)
	}
}

// count counts what a step of a run has made. A missing database or table counts as empty.
func (b *bundle) count(makes makes, tenantID, id string) (n int) {
	b.t.Helper()
	// As its own role, whose sessions the activities may end.
	tenant, _, _, _ := b.server.Location(tenantserver.Database{TenantID: tenantID, Password: databasePassword})
	urls := map[where]string{onServer: testenv.PostgresURL(b.t), inRegistry: b.registry.Config().ConnString(), inTenant: tenant}
	conn, err := pgx.Connect(b.t.Context(), urls[makes.where])
	if err == nil {
		defer conn.Close(context.WithoutCancel(b.t.Context()))
		err = conn.QueryRow(b.t.Context(), makes.count, id).Scan(&n)
	}
	if err != nil && !slices.Contains([]string{noRole, sqlstate.UndefinedDatabase, sqlstate.UndefinedTable}, sqlstate.Of(err)) {
		b.t.Fatalf("%s: %v", makes.count, err)
	}
	return n
}

// signups are the steps of a signup.
func (b *bundle) signups() kind[signup.StepInput] {
	return kind[signup.StepInput]{
		bundle: b, steps: signup.Steps, makes: signupMakes,
		begin: func() signup.StepInput { return b.newSignup(ids.New() + "@example.org") },
		again: func(in signup.StepInput) signup.StepInput { in.SignupID = ids.New(); return in },
		ids:   func(in signup.StepInput) (tenantID, id string) { return in.TenantID, in.TenantID },
	}
}

var signupMakes = map[string]makes{
	"CreateDatabase": {onServer, `
		SELECT (SELECT count(*) FROM pg_database WHERE datname = 'tenant_' || $1)
			+ (SELECT count(*) FROM pg_roles WHERE rolname = 'tenant_' || $1)`, 2},
	"MigrateDatabase": {inTenant, `SELECT count(*) FROM pg_tables WHERE schemaname = 'public' AND $1 <> ''`, 24},
	"CreateChurch":    {inRegistry, `SELECT count(*) FROM churches WHERE id = $1 AND subscription_status = 'trial'`, 1},
	"CreateTenant":    {inRegistry, `SELECT count(*) FROM tenants WHERE id = $1 AND subscription_plan = 'starter'`, 1},
	"CreateAdmin": {inRegistry, `
		SELECT count(*) FROM admins WHERE tenant_id = $1 AND role = 'PRIMARY' AND password_hash = 'hash'`, 1},
	"IndexAdminEmail":   {inRegistry, `SELECT count(*) FROM admin_email_index WHERE tenant_id = $1`, 1},
	"CreateTenantAdmin": {inTenant, `SELECT count(*) FROM admins WHERE role = 'PRIMARY' AND $1 <> ''`, 1},
}

// newSignup returns the input of a new signup's steps.
func (b *bundle) newSignup(email string) signup.StepInput {
	b.t.Helper()
	hash, err := b.do.Keys.EmailIndex(email)
	if err != nil {
		b.t.Fatal(err)
	}
	now := time.Now().UTC().Truncate(time.Microsecond)
	in := signup.Input{TenantID: ids.New(), AdminID: ids.New(), EmailHash: hash, RequestedAt: now, TrialEndsAt: now.Add(signup.Trial)}
	applicant, err := json.Marshal(signup.Applicant{
		ChurchName: "Grace Chapel", Email: email, FirstName: "Pat", LastName: "Muster",
		PasswordHash: "hash", DatabasePassword: databasePassword,
	})
	if err == nil {
		in.Applicant, err = b.do.Keys.Seal(applicant, signup.ApplicantPlace(in.TenantID))
	}
	if err != nil {
		b.t.Fatal(err)
	}
	return signup.StepInput{SignupID: ids.New(), Input: in}
}
