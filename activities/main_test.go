package activities_test

import (
	"errors"
	"log/slog"
	"net/url"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"go.temporal.io/sdk/log"
	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/testsuite"

	"narthex/activities"
	"narthex/internal/dev/testenv"
	"narthex/internal/fleet/ledger"
	"narthex/internal/ids"
	"narthex/internal/tenantserver"
	"narthex/migrations"
)

func TestMain(m *testing.M) { testenv.Main(m) }

// bundle holds the activities, with their own registry and a server for tenants' databases. On the server they use their
// own role, which has no more rights than Narthex needs.
type bundle struct {
	t        *testing.T
	do       *activities.Activities
	env      *testsuite.TestActivityEnvironment
	server   *tenantserver.Server
	admin    *pgxpool.Pool // the server, as its superuser
	role     string        // the activities' on it
	registry *pgxpool.Pool // the registry, as its superuser

	url, installation string // of the server, as the activities see it
}

func setup(t *testing.T) *bundle {
	t.Helper()
	return setupOn(t, testenv.PostgresURL(t))
}

// setupOn is like setup, but the tenants' databases are on the caller's server.
func setupOn(t *testing.T, serverURL string) *bundle {
	t.Helper()
	keys := testenv.Keys(t)
	reg, registryURL := testenv.NewRegistry(t, keys)
	b := &bundle{
		t: t, admin: testenv.OpenPool(t, serverURL), registry: testenv.OpenPool(t, registryURL),
		role: "service_" + ids.New(), installation: ids.New(),
	}
	service, err := url.Parse(serverURL)
	if err != nil {
		t.Fatal(err)
	}
	service.User = url.UserPassword(b.role, "service")
	b.exec(`CREATE ROLE ` + b.role + ` LOGIN CREATEDB CREATEROLE PASSWORD 'service'`)
	b.url = service.String()
	b.server, err = tenantserver.Open(t.Context(), b.url, b.installation, migrations.Tenant)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(b.server.Close)
	b.do = &activities.Activities{Registry: reg, Server: b.server, Keys: keys, Ledger: ledger.New(reg.Pool()), Now: time.Now}
	var suite testsuite.WorkflowTestSuite
	suite.SetLogger(log.NewStructuredLogger(slog.New(slog.DiscardHandler)))
	b.env = suite.NewTestActivityEnvironment()
	b.env.RegisterActivity(b.do)
	return b
}

// exec runs a statement on the server.
func (b *bundle) exec(sql string) {
	b.t.Helper()
	if _, err := b.admin.Exec(b.t.Context(), sql); err != nil {
		b.t.Fatalf("%s: %v", sql, err)
	}
}

// wantAnswer runs an activity that answers yes or no.
func (b *bundle) wantAnswer(when, activity string, in any, want bool) {
	b.t.Helper()
	answer, err := b.env.ExecuteActivity(activity, in)
	var yes bool
	if err == nil {
		err = answer.Get(&yes)
	}
	if err != nil || yes != want {
		b.t.Errorf("%s, %s answers %t (%v), want %t", when, activity, yes, err, want)
	}
}

// want runs an activity once, and compares the type of the error that the workflow sees, "" for none.
func (b *bundle) want(when, activity string, in any, kind string) {
	b.t.Helper()
	_, err := b.env.ExecuteActivity(activity, in)
	if got := kindOf(err); got != kind {
		b.t.Errorf("%s, %s fails with %q (%v), want %q", when, activity, got, err, kind)
	}
}

func kindOf(err error) string { return failureOf(err).kind }

// failure is an activity's error as the workflow sees it.
type failure struct {
	kind    string // "" for none
	retried bool
	benign  bool // not logged as an error
}

func failureOf(err error) failure {
	application, ok := errors.AsType[*temporal.ApplicationError](err)
	switch {
	case err == nil:
		return failure{}
	case !ok:
		return failure{kind: "no application error"}
	}
	return failure{application.Type(), !application.NonRetryable(), application.Category() == temporal.ApplicationErrorCategoryBenign}
}

// wantFailure runs an activity once, and compares what the workflow sees of its error.
func (b *bundle) wantFailure(activity string, in any, want failure) {
	b.t.Helper()
	_, err := b.env.ExecuteActivity(activity, in)
	if got := failureOf(err); got != want {
		b.t.Errorf("%s fails with %+v (%v), want %+v", activity, got, err, want)
	}
}
