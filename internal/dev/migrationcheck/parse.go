package migrationcheck

import (
	"encoding/json"
	"fmt"
	"strings"

	"github.com/wasilibs/go-pgquery/parser"
)

// node is a node of PostgreSQL's parse tree, which its parser prints as {"Kind": {…}}.
type node struct {
	kind string
	body json.RawMessage
}

func (n *node) UnmarshalJSON(data []byte) error {
	var fields map[string]json.RawMessage
	if err := json.Unmarshal(data, &fields); err != nil {
		return err
	}
	for n.kind, n.body = range fields { // there is only one
	}
	return nil
}

// as decodes a node into the type of its kind. The types below have the fields that the rules look at.
func as[T any](n node) (v T) {
	if n.body == nil {
		return v
	}
	if err := json.Unmarshal(n.body, &v); err != nil {
		panic(fmt.Sprintf("%s is not a %T: %v", n.kind, v, err))
	}
	return v
}

// statement is one statement of a file.
type statement struct {
	node
	line  int
	text  string
	notes []string // the comments above and after it
}

// parse splits a file into its statements.
func parse(text string) ([]statement, error) {
	out, err := parser.ParseToJSON(text)
	if err != nil {
		return nil, err
	}
	var tree struct {
		Stmts []struct {
			Stmt     node
			Location int `json:"stmt_location"`
			Len      int `json:"stmt_len"` // 0 if it ends with the file
		}
	}
	if err := json.Unmarshal([]byte(out), &tree); err != nil {
		return nil, fmt.Errorf("read parse tree: %w", err)
	}
	var statements []statement
	for i, s := range tree.Stmts {
		first, above, behind := skipComments(text, s.Location)
		end := s.Location + s.Len
		if s.Len == 0 {
			end = len(text)
		}
		if i > 0 {
			statements[i-1].notes = append(statements[i-1].notes, behind...)
		}
		statements = append(statements, statement{s.Stmt, lineAt(text, first), text[first:end], above})
	}
	if last := len(statements) - 1; last >= 0 {
		_, _, behind := skipComments(text, strings.LastIndex(text, statements[last].text)+len(statements[last].text)+1)
		statements[last].notes = append(statements[last].notes, behind...)
	}
	return statements, nil
}

// skipComments returns where the next statement after from begins, and the comments before it: those on the line where
// the previous statement ends, and those above the next one.
func skipComments(text string, from int) (first int, above, behind []string) {
	sameLine := from > 0
	for i := from; i < len(text); {
		rest := text[i:]
		switch {
		case strings.HasPrefix(rest, "--"):
			comment, _, _ := strings.Cut(rest, "\n")
			if sameLine {
				behind = append(behind, strings.TrimSpace(comment))
			} else {
				above = append(above, strings.TrimSpace(comment))
			}
			i += len(comment)
		case strings.HasPrefix(rest, "/*"):
			i += len(blockComment(rest))
		case strings.ContainsRune(" \t\r\n;", rune(rest[0])):
			sameLine = sameLine && rest[0] != '\n'
			i++
		default:
			return i, above, behind
		}
	}
	return len(text), above, behind
}

// blockComment returns the block comment that text begins with. Block comments nest.
func blockComment(text string) string {
	depth := 0
	for i := 0; i+1 < len(text); i++ {
		switch text[i : i+2] {
		case "/*":
			depth++
			i++
		case "*/":
			depth--
			i++
		}
		if depth == 0 {
			return text[:i+1]
		}
	}
	return text
}

type word struct{ String struct{ Sval string } }

func words(list []word) []string {
	var all []string
	for _, w := range list {
		all = append(all, w.String.Sval)
	}
	return all
}

// dotted returns a name in the form that the rules compare: without the schema public.
func dotted(parts []string) string { return strings.TrimPrefix(strings.Join(parts, "."), "public.") }

type relation struct{ Schemaname, Relname string }

func (r relation) name() string {
	if r.Schemaname == "" {
		return r.Relname
	}
	return dotted([]string{r.Schemaname, r.Relname})
}

type columnDef struct {
	Colname     string
	TypeName    typeName
	RawDefault  json.RawMessage `json:"raw_default"` // USING, if the column's type changes
	CollClause  json.RawMessage
	Constraints []struct{ Constraint constraintDef }
}

type constraintDef struct {
	Contype, Conname, Indexname string
	RawExpr                     json.RawMessage `json:"raw_expr"`
	SkipValidation              bool            `json:"skip_validation"`
	Pktable                     relation
	Keys                        []word
	FkAttrs                     []word `json:"fk_attrs"`
}

type typeName struct {
	Names       []word
	Typmods     []node
	ArrayBounds []node
}

type createTable struct {
	Relation     relation
	TableElts    []node
	InhRelations []struct{ RangeVar relation }
}

type alterTable struct {
	Relation relation
	Objtype  string
	Cmds     []struct{ AlterTableCmd alterCommand }
}

type alterCommand struct {
	Subtype, Name, Behavior string
	Def                     node
}

type createIndex struct {
	Idxname     string
	Relation    relation
	Concurrent  bool
	IfNotExists bool `json:"if_not_exists"`
	IndexParams []struct{ IndexElem struct{ Name string } }
}

type drop struct {
	RemoveType, Behavior string
	Objects              []node
	Concurrent           bool
	MissingOk            bool `json:"missing_ok"`
}

// names returns the objects' dotted names. For objects of a table, the table's name comes first.
func (d drop) names() []string {
	var all []string
	for _, object := range d.Objects {
		switch object.kind {
		case "List":
			all = append(all, dotted(words(as[struct{ Items []word }](object).Items)))
		case "TypeName":
			all = append(all, dotted(words(as[typeName](object).Names)))
		case "ObjectWithArgs":
			all = append(all, dotted(words(as[struct{ Objname []word }](object).Objname)))
		case "String":
			all = append(all, as[struct{ Sval string }](object).Sval)
		}
	}
	return all
}

// options are options in parentheses, as in VACUUM (FULL).
type options []struct{ DefElem struct{ Defname string } }

func (o options) has(name string) bool {
	for _, option := range o {
		if option.DefElem.Defname == name {
			return true
		}
	}
	return false
}

// walk calls visit with each node of a tree and with its kind.
func walk(tree json.RawMessage, visit func(kind string, body json.RawMessage)) {
	var fields map[string]json.RawMessage
	var items []json.RawMessage
	switch {
	case json.Unmarshal(tree, &items) == nil:
		for _, item := range items {
			walk(item, visit)
		}
	case json.Unmarshal(tree, &fields) == nil:
		for kind, body := range fields {
			visit(kind, body)
			walk(body, visit)
		}
	}
}
