package systemtest

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"go.temporal.io/sdk/activity"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/log"
	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/testsuite"
	"go.yaml.in/yaml/v3"

	"narthex/internal/dev/testenv"
	"narthex/internal/dev/teststack"
	"narthex/internal/fleet"
	"narthex/internal/fleet/ledger"
	"narthex/internal/signup"
	"narthex/workflows"
)

// scrape returns what Prometheus reads from the stack.
func scrape(s *teststack.Stack) string {
	s.T.Helper()
	server := httptest.NewServer(s.Watch.Handler(true))
	defer server.Close()
	response, err := http.Get(server.URL + "/metrics")
	if err != nil {
		s.T.Fatal(err)
	}
	defer response.Body.Close()
	content, err := io.ReadAll(response.Body)
	if err != nil {
		s.T.Fatal(err)
	}
	return string(content)
}

// Signups, failed and stuck ones too, requests and ready databases are counted, without personal data. All metrics that the
// dashboard and the alerts use exist.
func TestMetrics(t *testing.T) {
	t.Parallel()
	s := teststack.New(t)
	s.Second = "" // whose metrics are its own
	body := teststack.Applicant()
	session := s.Register(body)
	token := session["accessToken"].(string)
	s.Get("/api/auth/me", token)
	s.Get("/nowhere/"+body["email"].(string), "")
	s.Faults.Always("CreateTenantAdmin", teststack.FailsBefore)
	teststack.WantProblem(t, s.Post("/api/auth/register", teststack.Applicant()), http.StatusInternalServerError, "signup-rolled-back")
	stickRollback(s)
	countStuck(s)
	countOrphans(s)
	countFleet(s)
	sweep(s, false)
	makeTemplate(s)
	keepReady(s)
	teststack.Eventually(t, "the stock is full", func() bool { return inStock(s) == teststack.ReadySize })
	teststack.Eventually(t, "the stock is reported", func() bool { return regexp.MustCompile(`pool_stock\{.*\} 3\n`).MatchString(scrape(s)) })
	s.Faults.Reset()
	s.Register(teststack.Applicant())
	teststack.Eventually(t, "both churches are counted", func() bool {
		return strings.Contains(scrape(s), `narthex_fleet_churches{version="1"} 2`+"\n")
	})

	scraped := scrape(s)
	for _, pattern := range []string{
		`narthex_http_request_duration_seconds_count\{method="POST",route="/api/auth/register",status="201"\} 2`,
		`narthex_http_request_duration_seconds_count\{method="",route="none",status="404"\} 1`,
		`narthex_tenant_connections 1`,
		`narthex_tenant_connections_limit 50`,
		`narthex_fleet_runs\{state="halted"\} 1`,
		`narthex_fleet_failed_churches 1`,
		`saga_ended_total\{.*outcome="created",.*workflow_type="Signup"\} 2`,
		`saga_ended_total\{.*outcome="rolled_back",step="CreateTenantAdmin",.*workflow_type="Signup"\} 1`,
		`signup_databases_total\{.*source="empty",.*\} 2`,
		`signup_databases_total\{.*source="pool",.*\} 1`,
		`pool_size\{.*server="127.0.0.1:\d+",.*\} 3`,
		`saga_duration_seconds_bucket\{.*outcome="created",.*le="10"\} 2`,
		`narthex_fleet_behind_seconds 3[67]\d\d.*`,
	} {
		if !regexp.MustCompile(`(?m)` + pattern + `$`).MatchString(scraped) {
			t.Errorf("/metrics lacks %s", pattern)
		}
	}
	testenv.WantNothingOf(t, "/metrics", scraped, body["email"].(string), "example.org", body["password"].(string), "Grace Chapel",
		"Muster", token, session["tenantId"].(string), "postgres://", "$2a$", "signup-")
	checkExpressions(t, scraped)
	promtool(t, scraped, "check", "metrics")
	promtool(t, "", "check", "rules", "../../telemetry/alerts.yaml")
}

// promtool runs Prometheus's own checks on the input or the files, if it is installed.
func promtool(t *testing.T, input string, arguments ...string) {
	t.Helper()
	path, err := exec.LookPath("promtool")
	if err != nil {
		return
	}
	cmd := exec.Command(path, arguments...)
	cmd.Stdin = strings.NewReader(input)
	if output, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("promtool %v: %v\n%s", arguments, err, output)
	}
}

// countFleet counts churches as the next release does, of which a run could not change one and has halted.
func countFleet(s *teststack.Stack) {
	s.T.Helper()
	const newest = 2
	_, err := s.Registry.Exec(s.T.Context(), `
		WITH run AS (INSERT INTO fleet_runs (id, server, version, stage, state, created_at)
			VALUES ('run', 'server', 2, 'waves', 'halted', now() - interval '1 hour') RETURNING id),
			old AS (UPDATE tenants SET schema_changed_at = now() - interval '1 day')
		INSERT INTO fleet_changes (run_id, tenant_id, from_version, to_version, wave, position, state)
		SELECT run.id, tenants.id, 1, 2, 0, 0, 'failed' FROM run, tenants`)
	if err != nil {
		s.T.Fatal(err)
	}
	fleets := ledger.New(s.OpenRegistry().Pool())
	standing := func(ctx context.Context) (fleet.Standing, error) { return fleets.Standing(ctx, newest, time.Now()) }
	go s.Watch.CountFleet(s.T.Context(), standing, 100*time.Millisecond, s.Logger())
	teststack.Eventually(s.T, "churches are counted", func() bool { return strings.Contains(scrape(s), "\nnarthex_fleet_churches{") })
}

// stickRollback runs a signup whose rollback takes longer than it should, on a clock that skips waiting.
func stickRollback(s *teststack.Stack) {
	s.T.Helper()
	var options client.Options
	if err := s.Watch.Instrument(&options); err != nil {
		s.T.Fatal(err)
	}
	var suite testsuite.WorkflowTestSuite
	suite.SetMetricsHandler(options.MetricsHandler)
	suite.SetLogger(log.NewStructuredLogger(s.Logger()))
	env := suite.NewTestWorkflowEnvironment()
	tries := 0
	for name, run := range map[string]func() error{
		"CreateDatabase": func() error { return temporal.NewNonRetryableApplicationError("", "Injected", nil) },
		"DropDatabase": func() error {
			if tries++; tries < 12 {
				return teststack.ErrInjected
			}
			return nil
		},
	} {
		env.RegisterActivityWithOptions(func(context.Context, signup.StepInput) error { return run() }, activity.RegisterOptions{Name: name})
	}
	env.SetTestTimeout(teststack.Unhurried)
	env.ExecuteWorkflow(new(workflows.Workflows).Signup, signup.Input{RequestedAt: time.Now()})
}

// checkExpressions checks that the dashboard and the alerts use only metrics that exist.
func checkExpressions(t *testing.T, scraped string) {
	t.Helper()
	var dashboard struct {
		Panels []struct {
			Title   string
			Targets []struct{ Expr string }
		}
	}
	readFile(t, "../../telemetry/dashboards/narthex.json", json.Unmarshal, &dashboard)
	var alerts struct {
		Groups []struct {
			Rules []struct{ Alert, Expr string }
		}
	}
	readFile(t, "../../telemetry/alerts.yaml", yaml.Unmarshal, &alerts)
	asked := map[string]string{}
	for _, panel := range dashboard.Panels {
		for _, target := range panel.Targets {
			asked[target.Expr] = "the panel " + panel.Title
		}
	}
	for _, group := range alerts.Groups {
		for _, rule := range group.Rules {
			asked[rule.Expr] = "the alert " + rule.Alert
		}
	}
	there := append(metricNames(scraped), "up") // Prometheus's own metric
	for expression, who := range asked {
		named := namedIn(expression)
		if len(named) == 0 {
			t.Errorf("%s uses no metric: %s", who, expression)
		}
		for _, name := range named {
			if !slices.Contains(there, name) {
				t.Errorf("%s uses %s, which /metrics lacks", who, name)
			}
		}
	}
}

func readFile(t *testing.T, path string, decode func([]byte, any) error, into any) {
	t.Helper()
	content, err := os.ReadFile(path)
	if err == nil {
		err = decode(content, into)
	}
	if err != nil {
		t.Fatalf("%s: %v", path, err)
	}
}

// metricNames returns the names of the metrics in a scrape.
func metricNames(scraped string) (names []string) {
	for line := range strings.Lines(scraped) {
		if name := regexp.MustCompile(`^\w+`).FindString(line); name != "" {
			names = append(names, name)
		}
	}
	return names
}

var (
	notAMetric = regexp.MustCompile(`\{[^}]*\}|\[[^\]]*\]|\b(by|without)\s*\([^)]*\)|\w+\s*\(`) // labels, times, groups, functions
	metricName = regexp.MustCompile(`[a-z]+_\w+|\bup\b`)
)

// namedIn returns the names of the metrics in a PromQL expression.
func namedIn(expression string) []string {
	return metricName.FindAllString(notAMetric.ReplaceAllString(expression, " "), -1)
}
