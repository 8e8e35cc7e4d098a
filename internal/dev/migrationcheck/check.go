// Package migrationcheck reads migrations with PostgreSQL's own parser and refuses what can harm a database in use. Only
// tests use it. It sees statements, not data: a rehearsal shows whether a change is fast enough for the largest church.
// docs/schema-changes.md has the rules, each with the safe alternative.
package migrationcheck

import (
	"errors"
	"fmt"
	"io/fs"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/wasilibs/go-pgquery/parser"
)

// Schema is a folder of migrations.
type Schema struct {
	Name  string     // of the folder, shown to people
	Files fs.FS      // NNNNNN_title.up.sql and NNNNNN_title.down.sql
	From  int        // the rules apply to this version and to those after it
	Code  []CodeText // what the current code may send to PostgreSQL
}

// Finding is a reason to refuse a migration.
type Finding struct {
	File    string
	Line    int
	Rule    string // its name in docs/schema-changes.md
	Says    string // what is wrong
	Instead string // the safe alternative
}

func (f Finding) String() string {
	return fmt.Sprintf("%s:%d: %s (rule %s)\n\tInstead: %s.", f.File, f.Line, f.Says, f.Rule, f.Instead)
}

// The rules.
const (
	ruleBackfill    = "backfill"
	ruleCheck       = "check"
	ruleData        = "data"
	ruleEnum        = "enum"
	ruleForeignKey  = "foreign-key"
	ruleIndex       = "index"
	ruleLocks       = "locks"
	ruleMaintenance = "maintenance"
	ruleNotNull     = "not-null"
	ruleOpaque      = "opaque"
	ruleRemove      = "remove"
	ruleRename      = "rename"
	ruleRewrite     = "rewrite"
	ruleSettings    = "settings"
	ruleSyntax      = "syntax"
	ruleTransaction = "transaction"
	ruleUnique      = "unique"
	ruleUnknown     = "unknown"
	ruleUnsafe      = "unsafe"
	ruleValidate    = "validate"
)

// Rules are the names of all rules.
var Rules = []string{
	ruleBackfill, ruleCheck, ruleData, ruleEnum, ruleForeignKey, ruleIndex, ruleLocks, ruleMaintenance, ruleNotNull, ruleOpaque,
	ruleRemove, ruleRename, ruleRewrite, ruleSettings, ruleSyntax, ruleTransaction, ruleUnique, ruleUnknown, ruleUnsafe, ruleValidate,
}

// The runner depends on these rules, so they have no exceptions.
var withoutExceptions = []string{ruleBackfill, ruleSyntax, ruleTransaction, ruleUnsafe}

// file is one direction, up or down, of one version's migration.
type file struct {
	name       string
	version    int
	down       bool
	head       string // its first line
	text       string
	statements []statement
}

const (
	outsideTransaction = "-- no transaction"
	backfillHead       = "-- backfill:"
	unsafeLine         = "-- unsafe:"
)

func (f file) inTransaction() bool { return f.head != outsideTransaction }
func (f file) isBackfill() bool    { return strings.HasPrefix(f.head, backfillHead) }

// Check returns the findings for the schema's migrations, in order. It checks a down migration as if its own up migration
// and all before it had run.
func Check(s Schema) ([]Finding, error) {
	files, findings, err := read(s)
	if err != nil || len(findings) > 0 {
		return findings, err
	}
	for _, f := range files {
		if f.version < s.From {
			continue
		}
		found := run(s, catalogBefore(s, files, f), f)
		findings = append(findings, found...)
	}
	return findings, nil
}

// catalogBefore returns what the tables look like when f runs.
func catalogBefore(s Schema, files []file, f file) *catalog {
	before := newCatalog()
	for _, earlier := range files {
		if !earlier.down && (earlier.version < f.version || f.down && earlier.version == f.version) {
			run(s, before, earlier)
		}
	}
	return before
}

var fileName = regexp.MustCompile(`^(\d{6})_[a-z0-9_]+\.(up|down)\.sql$`)

// read parses all files in the order of their versions, up before down. Its findings are about files that it can't parse.
func read(s Schema) (files []file, findings []Finding, err error) {
	entries, err := fs.ReadDir(s.Files, ".")
	if err != nil {
		return nil, nil, fmt.Errorf("list migrations: %w", err)
	}
	for _, entry := range entries {
		content, err := fs.ReadFile(s.Files, entry.Name())
		if err != nil {
			return nil, nil, fmt.Errorf("read migration: %w", err)
		}
		f, finding := parseFile(s.Name, entry.Name(), string(content))
		if finding != nil {
			findings = append(findings, *finding)
		}
		files = append(files, f)
	}
	slices.SortStableFunc(files, func(a, b file) int {
		if a.version != b.version {
			return a.version - b.version
		}
		return strings.Compare(b.name, a.name) // up before down
	})
	return files, findings, nil
}

func parseFile(folder, name, text string) (file, *Finding) {
	f := file{name: folder + "/" + name, text: text}
	f.head, _, _ = strings.Cut(text, "\n")
	f.head = strings.TrimSpace(f.head)
	match := fileName.FindStringSubmatch(name)
	if match == nil {
		return f, &Finding{f.name, 1, ruleSyntax, "nothing runs a file with this name", "call it NNNNNN_title.up.sql or NNNNNN_title.down.sql"}
	}
	f.version, _ = strconv.Atoi(match[1])
	f.down = match[2] == "down"
	statements, err := parse(text)
	if err != nil {
		line := 1
		var where *parser.Error
		if errors.As(err, &where) && where.Cursorpos > 0 {
			line = lineAt(text, where.Cursorpos-1)
		}
		return f, &Finding{f.name, line, ruleSyntax, "PostgreSQL can't read it: " + err.Error(), "write what PostgreSQL 17 understands"}
	}
	f.statements = statements
	return f, nil
}

func lineAt(text string, offset int) int {
	return strings.Count(text[:min(offset, len(text))], "\n") + 1
}
