package config

import (
	"go/ast"
	"go/parser"
	"go/token"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// inCode returns the variables that this package's structs read, with their defaults.
func inCode(t *testing.T) map[string]string {
	t.Helper()
	files, err := filepath.Glob("*.go")
	if err != nil {
		t.Fatal(err)
	}
	variables := map[string]string{}
	for _, file := range files {
		if strings.HasSuffix(file, "_test.go") {
			continue
		}
		parsed, err := parser.ParseFile(token.NewFileSet(), file, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		ast.Inspect(parsed, func(node ast.Node) bool {
			field, ok := node.(*ast.Field)
			if !ok || field.Tag == nil {
				return true
			}
			quoted, err := strconv.Unquote(field.Tag.Value)
			if err != nil {
				t.Fatal(err)
			}
			tag := reflect.StructTag(quoted)
			if name, _, _ := strings.Cut(tag.Get("env"), ","); name != "" {
				variables[name] += tag.Get("envDefault") // some are read by two structs, one of which has no default
			}
			return true
		})
	}
	return variables
}

var row = regexp.MustCompile("(?m)^\\| `([A-Z_]+)` \\| [^|]+ \\| (?:`([^`|]+)` )?\\| ((?:\\*file\\*)?)")

// docs/configuration.md names each variable, its default, and whether it can be given as a file.
func TestDocumentation(t *testing.T) {
	t.Parallel()
	page, err := os.ReadFile("../../docs/configuration.md")
	if err != nil {
		t.Fatal(err)
	}
	documented, files := map[string]string{}, []string(nil)
	for _, match := range row.FindAllStringSubmatch(string(page), -1) {
		documented[match[1]] = match[2]
		if match[3] != "" {
			files = append(files, match[1])
		}
	}
	if want := inCode(t); !maps.Equal(documented, want) {
		t.Errorf("docs/configuration.md has these variables and defaults:\n  %v, and the code has\n  %v", documented, want)
	}
	want := slices.Sorted(slices.Values(secretVariables))
	if !slices.Equal(slices.Sorted(slices.Values(files)), want) {
		t.Errorf("docs/configuration.md says that these can be files: %v, and the code %v", files, want)
	}
}

var processRow = regexp.MustCompile("(?m)^\\| `narthex (api|worker|serve)`[^|]*\\| (.+) \\|$")

// docs/configuration.md names the settings that each process needs: with them it starts, and without any of them it doesn't.
func TestDocumentedNeeds(t *testing.T) {
	t.Parallel()
	page, err := os.ReadFile("../../docs/configuration.md")
	if err != nil {
		t.Fatal(err)
	}
	values, err := NewKeys()
	if err != nil {
		t.Fatal(err)
	}
	values["REGISTRY_URL"], values["TENANT_SERVER_URL"] = "postgres://n@db/registry", "postgres://n@db/postgres"
	matches := processRow.FindAllStringSubmatch(string(page), -1)
	if len(matches) != 3 {
		t.Fatalf("docs/configuration.md has rows of the processes %v, want api, worker and serve", matches)
	}
	for _, match := range matches {
		parts := func() *Process {
			return map[string]*Process{
				"api": {API: &API{}, Codec: &Codec{}}, "worker": {Worker: &Worker{}}, "serve": {API: &API{}, Codec: &Codec{}, Worker: &Worker{}},
			}[match[1]]
		}
		given := map[string]string{}
		for name := range strings.SplitSeq(match[2], ", ") {
			name = strings.Trim(name, "`")
			if name != "TEMPORAL_ADDRESS" { // Temporal's SDK reads it
				given[name] = values[name]
			}
		}
		if err := ParseFrom(parts(), given); err != nil {
			t.Errorf("narthex %s, with the settings that docs/configuration.md names: %v, want no error", match[1], err)
		}
		for name := range given {
			less := maps.Clone(given)
			delete(less, name)
			if err := ParseFrom(parts(), less); err == nil || !strings.Contains(err.Error(), name+" is not set") {
				t.Errorf("narthex %s without %s: %v, want an error that names it", match[1], name, err)
			}
		}
	}
}

// .env.example has each variable too, with its default.
func TestExample(t *testing.T) {
	t.Parallel()
	example, err := os.ReadFile("../../.env.example")
	if err != nil {
		t.Fatal(err)
	}
	for name, standard := range inCode(t) {
		line := regexp.MustCompile(`(?m)^` + name + `=(.*)$`).FindStringSubmatch(string(example))
		if line == nil || standard != "" && line[1] != standard {
			t.Errorf(".env.example has %q, want a line %s=%s", line, name, standard)
		}
	}
}
