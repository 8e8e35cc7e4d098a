// Package architecture tests which packages may import which.
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
	"narthex/internal/fleet"
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

// list returns what `go list -json` says about the packages.
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

// Some libraries may be imported by only some packages.
func TestLibrariesStayWhereTheyBelong(t *testing.T) {
	t.Parallel()
	rules := []struct {
		from      string
		forbidden []string
		except    string
		reason    string
	}{
		{"narthex/workflows", []string{"database/sql", "github.com/jackc", "net/http"}, "", "a replay must do exactly the same"},
		{"narthex/httpapi", []string{"database/sql", "github.com/jackc"}, "", "SQL belongs to the packages that keep the rows"},
		{"narthex/httpapi/services", []string{"go.temporal.io"}, "", "a service works only on its church's database"},
		{
			"narthex", []string{"go.temporal.io/server", "github.com/temporalio/ui-server"}, "narthex/internal/dev/localtemporal",
			"only development and tests run a Temporal server of their own",
		},
	}
	for _, p := range list(t, "narthex/...") {
		for _, rule := range rules {
			if !within(p.ImportPath, rule.from) || p.ImportPath == rule.except {
				continue
			}
			for _, imported := range p.Imports {
				if slices.ContainsFunc(rule.forbidden, func(library string) bool { return within(imported, library) }) {
					t.Errorf("%s imports %s, but %s", p.ImportPath, imported, rule.reason)
				}
			}
		}
	}
}

// Workflows import the packages of their subjects, which can also start, find and replay runs. None of that may reach a
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

// Workflows and activities know each other only by name. Each name must be an activity's, and each activity must be used.
func TestStepsAndActivitiesMatch(t *testing.T) {
	t.Parallel()
	named := []string{signup.IsTenantOpen, invitation.IsOffered, orphan.Find, orphan.Remove, readydb.Keep,
		fleet.Rehearse, fleet.Open, fleet.Extend, fleet.Change, fleet.Enter, fleet.Requeue, fleet.Probe}
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
