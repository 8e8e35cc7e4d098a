package workflows

import (
	"go/parser"
	"go/token"
	"os"
	"strconv"
	"strings"
	"testing"
)

// The workflow is deterministic only as long as it can reach neither a database, nor HTTP, nor a clock.
func TestImportsNothingThatVaries(t *testing.T) {
	files, err := os.ReadDir(".")
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		if !strings.HasSuffix(file.Name(), ".go") || strings.HasSuffix(file.Name(), "_test.go") {
			continue
		}
		parsed, err := parser.ParseFile(token.NewFileSet(), file.Name(), nil, parser.ImportsOnly)
		if err != nil {
			t.Fatal(err)
		}
		for _, spec := range parsed.Imports {
			path, err := strconv.Unquote(spec.Path.Value)
			if err != nil {
				t.Fatal(err)
			}
			switch {
			case path == "errors", path == "strings", path == "time", // only for durations: workflowcheck finds its clock
				strings.HasPrefix(path, "go.temporal.io/sdk/"), path == "narthex/internal/signup", path == "narthex/internal/invitation", path == "narthex/internal/orphan",
				path == "narthex/internal/readydb", path == "narthex/internal/ids": // for names: workflowcheck finds its clock and its chance
			default:
				t.Errorf("%s imports %s; a workflow may import errors, strings, time, the Temporal SDK, narthex/internal/ids and the contracts narthex/internal/signup, invitation, orphan and readydb", file.Name(), path)
			}
		}
	}
}
