package main

import (
	"context"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
	"github.com/jackc/pgx/v5"
	"go.temporal.io/api/workflowservice/v1"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/converter"

	"narthex/internal/dev/searchattributes"
	"narthex/internal/dev/testenv"
	"narthex/internal/saga"
)

// TestUIShowsAFailedSignup looks at a failed signup in Temporal's UI like an operator: with a browser, which has the
// payloads opened. Each page must show its texts in this order.
func TestUIShowsAFailedSignup(t *testing.T) {
	t.Parallel()
	b := openBrowser(t)
	s := startStack(t, dataFolder(t))
	s.failRegister("kim@example.org")
	workflow, tenantID := s.rolledBack()
	all := s.UI + "/namespaces/default/workflows"
	this := all + "/" + workflow

	database := "tenant_" + tenantID
	b.shows(all+"?query="+url.QueryEscape(`SignupOutcome="rolled_back"`), "FAILED", strings.Split(workflow, "/")[0])
	b.addColumns("TenantId", "SignupOutcome", "FailedStep")
	b.shows(all, "TenantId", "SignupOutcome", "FailedStep", tenantID, "rolled_back", "IndexAdminEmail")
	b.shows(this+"/user-metadata",
		"sign up "+database,
		"database and role: "+database,
		"[x] create role and database "+database+" on 127.0.0.1:", "; undo: done",
		"[ ] index the email, so that it leads to the church: failed; undo: done",
		"[ ] open the church")
	b.shows(this+"/timeline",
		"IndexAdminEmail • index the email, so that it leads to the church",
		"UnindexAdminEmail • undo: free the email",
		"DeleteAdmin • undo: delete the admin from the registry",
		"DeleteTenant • undo: delete the tenant from the registry",
		"DeleteChurch • undo: delete the church from the registry",
		"RevertDatabase • undo: remove the tables from "+database,
		"DropDatabase • undo: drop database and role "+database+" on 127.0.0.1:")
	b.shows(this+"/history", // newest first
		`"tenantId": "`+tenantID+`"`, // the input
		`"message": "index admin email: insert email index entry: PostgreSQL refused: the role lacks the privilege (42501)"`, // the result
		"Workflow Execution Failed",
		"DropDatabase Summary undo: drop database and role "+database,
		"UnindexAdminEmail Summary undo: free the email",
		"Activity Task Failed",
		"IndexAdminEmail Summary index the email, so that it leads to the church")
}

// failRegister signs a church up whose sixth step fails for good.
func (s *runningStack) failRegister(email string) {
	s.t.Helper()
	conn, err := pgx.Connect(s.t.Context(), s.Registry)
	if err != nil {
		s.t.Fatal(err)
	}
	defer conn.Close(s.t.Context())
	if _, err := conn.Exec(s.t.Context(), `REVOKE INSERT ON admin_email_index FROM CURRENT_USER`); err != nil {
		s.t.Fatal(err)
	}
	s.post("/api/auth/register", map[string]string{"churchName": "Trial Chapel", "email": email, "password": "correct horse",
		"firstName": "Kim", "lastName": "Muster"}, http.StatusInternalServerError)
}

// rolledBack waits until Temporal lists the one signup that was rolled back, and returns it as workflow id / run id.
func (s *runningStack) rolledBack() (workflow, tenantID string) {
	s.t.Helper()
	c, err := client.Dial(client.Options{HostPort: s.Temporal, Namespace: s.Namespace})
	if err != nil {
		s.t.Fatal(err)
	}
	defer c.Close()
	query := &workflowservice.ListWorkflowExecutionsRequest{Query: `SignupOutcome = "rolled_back"`}
	for deadline := time.Now().Add(3 * time.Minute); time.Now().Before(deadline); time.Sleep(100 * time.Millisecond) {
		list, err := c.ListWorkflow(s.t.Context(), query)
		if err != nil {
			s.t.Fatal(err)
		}
		if len(list.Executions) == 0 {
			continue
		}
		found := list.Executions[0]
		attribute := found.SearchAttributes.IndexedFields[saga.TenantID.GetName()]
		if err := converter.GetDefaultDataConverter().FromPayload(attribute, &tenantID); err != nil {
			s.t.Fatal(err)
		}
		return found.Execution.WorkflowId + "/" + found.Execution.RunId, tenantID
	}
	s.t.Fatal("Temporal lists no rolled-back signup, a minute after the rollback")
	return "", ""
}

// browser is a tab of a Chromium without a window.
type browser struct {
	t   *testing.T
	ctx context.Context
}

// openBrowser starts a Chromium that ends with the test. Without one, it skips the test.
func openBrowser(t *testing.T) browser {
	t.Helper()
	var path string
	for _, name := range []string{"chromium", "chromium-browser", "google-chrome"} {
		if found, err := exec.LookPath(name); err == nil {
			path = found
			break
		}
	}
	if path == "" {
		t.Skip("Temporal's UI is not checked: there is no chromium, chromium-browser or google-chrome in PATH")
	}
	litter := t.TempDir() // Chromium leaves files in these folders
	options := append(chromedp.DefaultExecAllocatorOptions[:], chromedp.ExecPath(path),
		chromedp.Env("TMPDIR="+litter, "XDG_CONFIG_HOME="+litter, "XDG_CACHE_HOME="+litter),
		chromedp.NoSandbox,              // root has no sandbox, and the pages are our own
		chromedp.WindowSize(1600, 6000)) // the UI doesn't render what one would have to scroll to
	allocator, stop := chromedp.NewExecAllocator(t.Context(), options...)
	t.Cleanup(stop)
	ctx, closeTab := chromedp.NewContext(allocator)
	t.Cleanup(closeTab)
	if err := chromedp.Do(ctx); err != nil {
		t.Fatalf("start %s: %v", path, err)
	}
	return browser{t, ctx}
}

// visibleText is what a page shows. Temporal's UI renders Markdown in frames of its own.
const visibleText = `[document, ...[...document.querySelectorAll('iframe')].map(frame => frame.contentDocument)]
	.map(part => part?.body?.innerText ?? '').join('\n')`

// shows opens a page, and waits until it shows the texts, in this order.
func (b browser) shows(page string, texts ...string) {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.ctx, 2*time.Minute)
	defer cancel()
	err := chromedp.Do(ctx, chromedp.Navigate(page))
	var shown, missing string
	for err == nil {
		if shown, err = chromedp.Run(ctx, chromedp.Evaluate[string](visibleText)); err != nil {
			break
		}
		shown = strings.Join(strings.Fields(shown), " ")
		if missing = firstMissing(shown, texts); missing == "" {
			return
		}
		err = chromedp.Do(ctx, chromedp.Sleep(200*time.Millisecond))
	}
	b.t.Fatalf("%s does not show %q where it should (%v). It shows:\n%.6000s", page, missing, err, shown)
}

// addColumns adds columns to the list of workflows that is shown, as docs/operate.md says.
func (b browser) addColumns(names ...string) {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.ctx, 2*time.Minute)
	defer cancel()
	labels := []string{"Configure Columns"}
	for _, name := range names {
		labels = append(labels, "Add "+name+" column")
	}
	for _, label := range labels {
		click := chromedp.Evaluate[bool](`(button => (button?.click(), !!button))(document.querySelector('[aria-label="` + label + `"]'))`)
		clicked, err := chromedp.Run(ctx, click)
		for err == nil && !clicked {
			if err = chromedp.Do(ctx, chromedp.Sleep(200*time.Millisecond)); err == nil {
				clicked, err = chromedp.Run(ctx, click)
			}
		}
		if err != nil {
			b.t.Fatalf("there is no button %q: %v", label, err)
		}
	}
}

// firstMissing returns the first text that doesn't come after the ones before it.
func firstMissing(shown string, texts []string) string {
	for _, text := range texts {
		_, rest, found := strings.Cut(shown, text)
		if !found {
			return text
		}
		shown = rest
	}
	return ""
}

// savedQueries matches the rows with a filter in docs/operate.md's tables.
var savedQueries = regexp.MustCompile("(?m)^\\| .+ \\| `([A-Z]\\w+ (?:=|!=|IN|NOT IN|<|>) .+)` \\|$")

// TestSavedQueries checks that a Temporal server accepts the filters in docs/operate.md.
func TestSavedQueries(t *testing.T) {
	t.Parallel()
	page, err := os.ReadFile("../../docs/operate.md")
	if err != nil {
		t.Fatal(err)
	}
	c, err := client.Dial(client.Options{HostPort: testenv.TemporalAddress(t)})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if err := searchattributes.Ensure(t.Context(), c, client.DefaultNamespace); err != nil {
		t.Fatal(err)
	}
	rows := savedQueries.FindAllSubmatch(page, -1)
	if len(rows) < 7 {
		t.Errorf("docs/operate.md has %d filters, want at least 7", len(rows))
	}
	for _, row := range rows {
		if _, err := c.ListWorkflow(t.Context(), &workflowservice.ListWorkflowExecutionsRequest{Query: string(row[1])}); err != nil {
			t.Errorf("%s: %v", row[1], err)
		}
	}
}
