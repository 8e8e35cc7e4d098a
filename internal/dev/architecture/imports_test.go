// Package architecture holds the rules of who may depend on whom, as tests.
package architecture

import (
	"encoding/json"
	"errors"
	"io"
	"os/exec"
	"reflect"
	"slices"
	"strings"
	"testing"

	"narthex/activities"
	"narthex/internal/invitation"
	"narthex/internal/orphan"
	"narthex/internal/readydb"
	"narthex/internal/signup"
)

type goPackage struct {
	ImportPath string
	Imports    []string
	Deps       []string
}

// list returns what `go list -json` says of the packages.
func list(t *testing.T, patterns ...string) []goPackage {
	t.Helper()
	cmd := exec.Command("go", append([]string{"list", "-json=ImportPath,Imports,Deps"}, patterns...)...)
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list: %v\n%s", err, stderr.String())
	}
	var all []goPackage
	for decoder := json.NewDecoder(strings.NewReader(string(out))); ; {
		var p goPackage
		if err := decoder.Decode(&p); errors.Is(err, io.EOF) {
			return all
		} else if err != nil {
			t.Fatal(err)
		}
		all = append(all, p)
	}
}

func within(path, root string) bool { return path == root || strings.HasPrefix(path, root+"/") }

// The arrows between packages point one way. Each rule forbids packages below one path to import
// packages below others, with the exceptions named.
func TestImportsPointOneWay(t *testing.T) {
	t.Parallel()
	rules := []struct {
		from      string
		forbidden []string
		except    []string
	}{
		{
			from:      "narthex/internal",
			forbidden: []string{"narthex/cmd", "narthex/httpapi", "narthex/workflows", "narthex/activities"},
			except:    []string{"narthex/internal/dev/teststack"}, // which runs them all
		},
		{from: "narthex/activities", forbidden: []string{"narthex/cmd", "narthex/httpapi", "narthex/workflows"}},
		{
			from: "narthex/workflows",
			forbidden: []string{
				"narthex/cmd",
				"narthex/httpapi",
				"narthex/activities",
				"narthex/internal/postgres",
				"database/sql",
				"github.com/jackc",
				"net/http",
			},
		},
		{
			from: "narthex/httpapi",
			forbidden: []string{
				"narthex/cmd",
				"narthex/workflows",
				"narthex/activities",
				"narthex/internal/idempotency",
				"narthex/internal/tenantserver",
				"narthex/internal/schema",
				"narthex/internal/postgres",
				"narthex/migrations",
				"database/sql",
				"github.com/jackc",
			},
		},
		// A church's service is given its database, and has no way to another's.
		{
			from:      "narthex/httpapi/services",
			forbidden: []string{"narthex/internal/registry", "narthex/internal/sessions", "narthex/internal/secrets", "narthex/internal/config", "go.temporal.io"},
		},
		{
			from:      "narthex",
			forbidden: []string{"go.temporal.io/server", "github.com/temporalio/ui-server"},
			except:    []string{"narthex/internal/dev/localtemporal"},
		},
		{
			from:      "narthex",
			forbidden: []string{"narthex/internal/dev"},
			except:    []string{"narthex/internal/dev", "narthex/cmd/narthex-dev", "narthex/cmd/narthex-bench"},
		},
		// Only tests import these.
		{
			from:      "narthex",
			forbidden: []string{"narthex/internal/dev/testenv", "narthex/internal/dev/teststack"},
			except:    []string{"narthex/internal/dev/teststack"},
		},
	}
	for _, p := range list(t, "narthex/...") {
		for _, rule := range rules {
			if !within(p.ImportPath, rule.from) || slices.ContainsFunc(rule.except, func(e string) bool { return within(p.ImportPath, e) }) {
				continue
			}
			for _, imported := range p.Imports {
				for _, forbidden := range rule.forbidden {
					if within(imported, forbidden) {
						t.Errorf("%s imports %s; nothing below %s may import %s", p.ImportPath, imported, rule.from, forbidden)
					}
				}
			}
		}
	}
}

// Workflows import what signups and invitations are, and with it what one can do with them: none of that may reach a
// database.
func TestWorkflowsReachNoDatabase(t *testing.T) {
	t.Parallel()
	for _, p := range list(t, "narthex/workflows") {
		for _, dep := range p.Deps {
			for _, forbidden := range []string{"narthex/internal/postgres", "narthex/internal/registry", "github.com/jackc"} {
				if within(dep, forbidden) {
					t.Errorf("%s reaches %s, want no database in it", p.ImportPath, dep)
				}
			}
		}
	}
}

func TestProductionProgramLinksNoTemporalServer(t *testing.T) {
	t.Parallel()
	for _, p := range list(t, "narthex/cmd/narthex") {
		for _, dep := range p.Deps {
			if within(dep, "go.temporal.io/server") || within(dep, "github.com/temporalio/ui-server") {
				t.Errorf("%s links %s, want no Temporal server in it", p.ImportPath, dep)
			}
		}
	}
}

// Workflow and activities know each other by name alone: each name must be an activity's, and each
// activity must be used.
func TestStepsAndActivitiesMatch(t *testing.T) {
	t.Parallel()
	named := []string{signup.IsTenantOpen, invitation.IsOffered, orphan.Find, orphan.Remove, readydb.Keep}
	var written []string
	for _, step := range slices.Concat(signup.Steps, invitation.Steps) {
		named = append(named, step.Do)
		if step.Undo != "" {
			named = append(named, step.Undo)
		}
	}
	methods := reflect.TypeFor[*activities.Activities]()
	for method := range methods.Methods() {
		written = append(written, method.Name)
	}
	slices.Sort(named)
	if !slices.Equal(named, written) {
		t.Errorf("the workflow's steps name\n  %v, and the activities are\n  %v", named, written)
	}
}
