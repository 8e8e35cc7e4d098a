package workflows

import (
	"go/parser"
	"go/token"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// Workflows are deterministic only as long as their packages can reach no database, no HTTP and no clock.
func TestImportsAreDeterministic(t *testing.T) {
	harmless := []string{
		"cmp", "errors", "strings", "go.temporal.io/api/enums/v1", "go.temporal.io/sdk/temporal", "go.temporal.io/sdk/workflow",
		"time", "narthex/internal/ids", // for durations and names; workflowcheck finds uses of the clock and of random numbers
		"narthex/internal/saga", "narthex/internal/signup", "narthex/internal/invitation", "narthex/internal/orphan", "narthex/internal/readydb",
		"narthex/internal/fleet",
	}
	for _, folder := range []string{".", "../internal/saga"} {
		files, err := filepath.Glob(filepath.Join(folder, "*.go"))
		if err != nil || len(files) == 0 {
			t.Fatalf("found no sources in %s (%v)", folder, err)
		}
		for _, file := range files {
			if strings.HasSuffix(file, "_test.go") {
				continue
			}
			for _, path := range imports(t, file) {
				if !slices.Contains(harmless, path) {
					t.Errorf("%s imports %s; a workflow may import %s", file, path, strings.Join(harmless, ", "))
				}
			}
		}
	}
}

func imports(t *testing.T, file string) (paths []string) {
	t.Helper()
	parsed, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.ImportsOnly)
	if err != nil {
		t.Fatal(err)
	}
	for _, spec := range parsed.Imports {
		path, err := strconv.Unquote(spec.Path.Value)
		if err != nil {
			t.Fatal(err)
		}
		paths = append(paths, path)
	}
	return paths
}
