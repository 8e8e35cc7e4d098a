package architecture

import (
	"go/ast"
	"go/parser"
	"go/token"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

// Canaries are probed with the statements that the API sends to a church's database. A constant that isn't in its package's
// list would be left out.
func TestStatementsAreListed(t *testing.T) {
	t.Parallel()
	for dir, exempt := range map[string]map[string]bool{
		"../../../httpapi/services": {},
		"../../tenantdb":            {"selectCapacity": true}, // reads the server's settings
	} {
		constants, listed := readStatements(t, dir)
		if len(constants) == 0 || len(listed) == 0 {
			t.Errorf("%s has %d constants with SQL and lists %d: want some of each", dir, len(constants), len(listed))
		}
		for name := range constants {
			if listed[name] == "" && !exempt[name] {
				t.Errorf("%s: the SQL %s is not in Statements, so canaries are not probed with it", dir, name)
			}
		}
		for name, key := range listed {
			if key != name {
				t.Errorf("%s: Statements has %s under the name %q", dir, name, key)
			}
		}
	}
}

var isSQL = regexp.MustCompile(`^\s*(SELECT|INSERT|UPDATE|DELETE|WITH)(\s|$)`)

// readStatements returns a package's constants that hold a statement, and those that its function Statements lists, with
// the names in that list.
func readStatements(t *testing.T, dir string) (constants map[string]bool, listed map[string]string) {
	t.Helper()
	paths, err := filepath.Glob(filepath.Join(filepath.FromSlash(dir), "*.go"))
	if err != nil {
		t.Fatal(err)
	}
	constants, listed = map[string]bool{}, map[string]string{}
	for _, path := range paths {
		if strings.HasSuffix(path, "_test.go") {
			continue
		}
		file, err := parser.ParseFile(token.NewFileSet(), path, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		for _, declared := range file.Decls {
			switch d := declared.(type) {
			case *ast.GenDecl:
				addSQL(d, constants)
			case *ast.FuncDecl:
				if d.Name.Name == "Statements" && d.Recv == nil {
					addListed(d, listed)
				}
			}
		}
	}
	return constants, listed
}

func addSQL(declared *ast.GenDecl, constants map[string]bool) {
	if declared.Tok != token.CONST {
		return
	}
	for _, spec := range declared.Specs {
		value := spec.(*ast.ValueSpec)
		for i, expression := range value.Values {
			if isSQL.MatchString(beginning(expression)) {
				constants[value.Names[i].Name] = true
			}
		}
	}
}

// beginning returns the text that a constant begins with.
func beginning(expression ast.Expr) string {
	switch e := expression.(type) {
	case *ast.BinaryExpr:
		return beginning(e.X)
	case *ast.BasicLit:
		text, _ := strconv.Unquote(e.Value)
		return text
	}
	return ""
}

func addListed(statements *ast.FuncDecl, listed map[string]string) {
	ast.Inspect(statements, func(n ast.Node) bool {
		if pair, ok := n.(*ast.KeyValueExpr); ok {
			if name, ok := pair.Value.(*ast.Ident); ok {
				listed[name.Name] = beginning(pair.Key)
			}
		}
		return true
	})
}
