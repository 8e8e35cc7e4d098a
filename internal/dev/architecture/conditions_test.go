package architecture

import (
	"go/ast"
	"go/parser"
	"go/token"
	"go/types"
	"io/fs"
	"path/filepath"
	"strings"
	"testing"
)

// A condition hides no call whose result is needed: `if x, err = f(); err != nil` assigns x where readers don't look. Only err may
// be assigned there.
func TestConditionsAssignNoResults(t *testing.T) {
	t.Parallel()
	eachFile(t, "../../..", func(file *ast.File, position func(token.Pos) token.Position) {
		for _, at := range hiddenAssignments(file) {
			t.Errorf("%s: the condition assigns a result: do that on a line of its own", position(at))
		}
	})
}

// If a handler joins errors, the problem among them is the answer, and hides an outage.
func TestHandlersJoinNoErrors(t *testing.T) {
	t.Parallel()
	eachFile(t, "../../../httpapi", func(file *ast.File, position func(token.Pos) token.Position) {
		ast.Inspect(file, func(n ast.Node) bool {
			if called, ok := n.(*ast.SelectorExpr); ok && types.ExprString(called) == "errors.Join" {
				t.Errorf("%s: errors are joined: return the outage, or else the problem", position(called.Pos()))
			}
			return true
		})
	})
}

// eachFile parses the Go files in a folder and the folders below it, except tests.
func eachFile(t *testing.T, folder string, visit func(file *ast.File, position func(token.Pos) token.Position)) {
	t.Helper()
	files := token.NewFileSet()
	parsed := 0
	err := filepath.WalkDir(filepath.FromSlash(folder), func(path string, entry fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case entry.IsDir() && strings.Trim(entry.Name(), ".") != "" && strings.HasPrefix(entry.Name(), "."):
			return filepath.SkipDir
		case !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go"):
			return nil
		}
		file, err := parser.ParseFile(files, path, nil, parser.SkipObjectResolution)
		if err != nil {
			return err
		}
		parsed++
		visit(file, files.Position)
		return nil
	})
	if err != nil || parsed == 0 {
		t.Fatalf("read %d files in %s: %v, want all of them", parsed, folder, err)
	}
}

func TestHiddenAssignmentsAreFound(t *testing.T) {
	t.Parallel()
	for condition, hidden := range map[string]bool{
		"if err = f(); err != nil {}":    false,
		"if err := f(); err != nil {}":   false,
		"if x, ok := f(); ok {}":         false,
		"if x, err = f(); err != nil {}": true,
		"if s.x = f(); s.x == nil {}":    true,
		"if xs[i] = f(); xs[i] {}":       true,
	} {
		file, err := parser.ParseFile(token.NewFileSet(), "", "package p\nfunc g() {"+condition+"}", 0)
		if err != nil {
			t.Fatal(err)
		}
		if found := len(hiddenAssignments(file)) > 0; found != hidden {
			t.Errorf("%s hides an assignment: %v, want %v", condition, found, hidden)
		}
	}
}

func hiddenAssignments(file *ast.File) (found []token.Pos) {
	ast.Inspect(file, func(n ast.Node) bool {
		condition, ok := n.(*ast.IfStmt)
		if !ok {
			return true
		}
		assigned, ok := condition.Init.(*ast.AssignStmt)
		if !ok || assigned.Tok != token.ASSIGN {
			return true
		}
		for _, to := range assigned.Lhs {
			if name, ok := to.(*ast.Ident); !ok || name.Name != "err" {
				found = append(found, assigned.Pos())
				break
			}
		}
		return true
	})
	return found
}
