package migrationcheck

import (
	"cmp"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// CodeText is a string constant in Go code, with concatenations resolved.
type CodeText struct {
	File string // relative to the module
	Line int
	Text string
}

// Code returns the string constants of a module's Go files, except those of tests.
func Code(root string) (texts []CodeText, err error) {
	folders := map[string][]*ast.File{}
	set := token.NewFileSet()
	err = filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case entry.IsDir() && (strings.HasPrefix(entry.Name(), ".") && path != root || entry.Name() == "testdata"):
			return filepath.SkipDir
		case entry.IsDir() || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go"):
			return nil
		}
		file, err := parser.ParseFile(set, path, nil, parser.SkipObjectResolution)
		folders[filepath.Dir(path)] = append(folders[filepath.Dir(path)], file)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("read Go code: %w", err)
	}
	for _, files := range folders {
		constants := constantsOf(files)
		for _, file := range files {
			for _, text := range textsOf(file, constants) {
				where := set.Position(text.at)
				name, err := filepath.Rel(root, where.Filename)
				if err != nil {
					name = where.Filename
				}
				texts = append(texts, CodeText{filepath.ToSlash(name), where.Line, text.text})
			}
		}
	}
	slices.SortFunc(texts, func(a, b CodeText) int {
		return cmp.Or(strings.Compare(a.File, b.File), a.Line-b.Line)
	})
	return texts, nil
}

// constantsOf returns the expressions of a package's constants and variables, by name.
func constantsOf(files []*ast.File) map[string]ast.Expr {
	constants := map[string]ast.Expr{}
	for _, file := range files {
		for _, declaration := range file.Decls {
			group, ok := declaration.(*ast.GenDecl)
			if !ok {
				continue
			}
			for _, spec := range group.Specs {
				value, ok := spec.(*ast.ValueSpec)
				for i := 0; ok && i < min(len(value.Names), len(value.Values)); i++ {
					constants[value.Names[i].Name] = value.Values[i]
				}
			}
		}
	}
	return constants
}

type codeText struct {
	at   token.Pos
	text string
}

func textsOf(file *ast.File, constants map[string]ast.Expr) (texts []codeText) {
	ast.Inspect(file, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.ImportSpec:
			return false
		case *ast.BinaryExpr:
			if n.Op != token.ADD {
				return true
			}
			texts = append(texts, codeText{n.Pos(), fold(n, constants, 0)})
		case *ast.BasicLit:
			if n.Kind == token.STRING {
				texts = append(texts, codeText{n.Pos(), fold(n, constants, 0)})
			}
		}
		return true
	})
	return texts
}

// fold returns the parts of a string expression's value that are known.
func fold(expression ast.Expr, constants map[string]ast.Expr, depth int) string {
	if depth > 20 { // a variable may refer to itself
		return ""
	}
	switch e := expression.(type) {
	case *ast.BasicLit:
		text, _ := strconv.Unquote(e.Value)
		return text
	case *ast.BinaryExpr:
		return fold(e.X, constants, depth+1) + fold(e.Y, constants, depth+1)
	case *ast.ParenExpr:
		return fold(e.X, constants, depth+1)
	case *ast.Ident:
		if known := constants[e.Name]; known != nil {
			return fold(known, constants, depth+1)
		}
	}
	return ""
}

var verbs = regexp.MustCompile(`\b(SELECT|INSERT|UPDATE|DELETE|MERGE|TRUNCATE|COPY)\b`)

// mention returns where code names the table, and the column unless that is empty. It looks for both in one SQL text, or
// in two texts of a file, which the code may join. It prefers finding too much to finding too little.
func mention(code []CodeText, table, column string) (where string) {
	var (
		hasTable   = regexp.MustCompile(`\b` + regexp.QuoteMeta(table) + `\b`)
		hasColumn  = regexp.MustCompile(`\b` + regexp.QuoteMeta(column) + `\b`) // matches any text if column is empty
		allColumns = regexp.MustCompile(`SELECT\s+\*\s+FROM\s+` + regexp.QuoteMeta(table) + `\b|RETURNING\s+\*|\w\.\*`)
		columnList = regexp.MustCompile(`^[\s\w",.]*$`)
		tables     = map[string]bool{}
		columns    = map[string]CodeText{} // by file
	)
	for _, text := range code {
		isSQL := verbs.MatchString(text.Text) && hasTable.MatchString(text.Text)
		if isSQL && (hasColumn.MatchString(text.Text) || allColumns.MatchString(text.Text)) {
			return text.where()
		}
		if isSQL || text.Text == table {
			tables[text.File] = true
		}
		if columnList.MatchString(text.Text) && hasColumn.MatchString(text.Text) && (column != "" || text.Text == table) {
			columns[text.File] = text
		}
		if named, ok := columns[text.File]; ok && tables[text.File] {
			return named.where()
		}
	}
	return ""
}

func (c CodeText) where() string { return fmt.Sprintf("%s:%d", c.File, c.Line) }
