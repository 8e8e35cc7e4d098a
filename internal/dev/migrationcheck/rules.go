package migrationcheck

import (
	"fmt"
	"slices"
	"strings"
)

// pass is the check of one file.
type pass struct {
	schema Schema
	cat    *catalog
	file   file

	now       statement
	found     []Finding // of the statement
	locks     []string  // the tables in use to which the statement blocks writes
	findings  []Finding
	locked    []string // what earlier statements have locked
	validated bool     // an earlier statement reads all rows of a table
	newValues []string // of enum types
}

// run checks a file, and applies its changes to the catalog.
func run(s Schema, cat *catalog, f file) []Finding {
	p := &pass{schema: s, cat: cat, file: f}
	p.checkTransactions()
	if f.isBackfill() {
		p.checkBackfill()
	}
	for _, statement := range f.statements {
		p.now, p.found, p.locks = statement, nil, nil
		rule, known := rules[statement.kind]
		switch {
		case f.isBackfill() && !slices.Contains(dataStatements, statement.kind):
			p.say(ruleBackfill, "a file of data may hold only INSERT, UPDATE, DELETE and MERGE", "change the schema in a file of its own")
		case !known:
			p.say(ruleUnknown, "the check doesn't know what this does to a database in use: "+firstWords(statement.text),
				"find out, then add it to the check or explain it in a line `-- unsafe: reason`")
		default:
			rule(p, statement.node)
		}
		p.checkValues()
		p.checkLocks()
		p.report()
	}
	return p.findings
}

func (p *pass) say(rule, says, instead string) {
	p.found = append(p.found, Finding{p.file.name, p.now.line, rule, says, instead})
}

// existing reports whether a table may be in use. A table that this version creates isn't yet. One that the check doesn't
// know counts as in use.
func (p *pass) existing(name string) bool {
	t := p.cat.tables[name]
	return t == nil || t.version != p.file.version
}

func (p *pass) lock(names ...string) {
	for _, name := range names {
		if name != "" && p.existing(name) && !slices.Contains(p.locks, name) {
			p.locks = append(p.locks, name)
		}
	}
}

// report adds the findings about the statement, except those that a comment line allows.
func (p *pass) report() {
	reason, isUnsafe := p.unsafe()
	fixed := slices.DeleteFunc(slices.Clone(p.found), func(f Finding) bool { return !slices.Contains(withoutExceptions, f.Rule) })
	switch {
	case isUnsafe && reason == "":
		p.say(ruleUnsafe, "`-- unsafe:` gives no reason", "say why it can't hurt here")
	case isUnsafe && len(fixed) == len(p.found):
		p.say(ruleUnsafe, "`-- unsafe:` isn't needed here", "remove the line")
	case isUnsafe:
		p.found = fixed
	}
	p.findings = append(p.findings, p.found...)
}

func (p *pass) unsafe() (reason string, found bool) {
	for _, note := range p.now.notes {
		if text, ok := strings.CutPrefix(note, unsafeLine); ok {
			return strings.TrimSpace(text), true
		}
	}
	return "", false
}

// checkLocks refuses to lock a second table, because nobody can use the first one while the file waits for that lock.
func (p *pass) checkLocks() {
	var more []string
	for _, name := range p.locks {
		if !slices.Contains(p.locked, name) {
			more = append(more, name)
		}
	}
	if len(p.locked) > 0 && len(more) > 0 {
		p.say(ruleLocks, fmt.Sprintf("locks %s, and the file has locked %s", strings.Join(more, ", "), strings.Join(p.locked, ", ")),
			"one table per file")
	}
	if p.validated && len(p.locks) > 0 {
		p.say(ruleValidate, "locks "+strings.Join(p.locks, ", ")+" in a file that reads all rows of a table", validateLater)
	}
	p.locked = append(p.locked, more...)
}

// checkValues refuses the use of a new enum value in the transaction that adds it: PostgreSQL doesn't allow that.
func (p *pass) checkValues() {
	for _, value := range p.newValues {
		if p.now.kind != "AlterEnumStmt" && strings.Contains(p.now.text, "'"+value+"'") {
			p.say(ruleEnum, fmt.Sprintf("uses the value %q in the transaction that adds it", value), "use it in a later file")
		}
	}
}

func firstWords(text string) string {
	fields := strings.Fields(text)
	return strings.Join(fields[:min(4, len(fields))], " ")
}

// checkTransactions checks that a file's first line says so if it can't run in a transaction, and only then.
func (p *pass) checkTransactions() {
	first := func(says, instead string) {
		p.findings = append(p.findings, Finding{p.file.name, 1, ruleTransaction, says, instead})
	}
	for _, statement := range p.file.statements {
		why, repeatable := outside(statement)
		p.now, p.found = statement, nil
		switch {
		case why == "" && !p.file.inTransaction():
			first("`-- no transaction`, but its statement can run in one", "remove the line")
		case why != "" && p.file.inTransaction():
			p.say(ruleTransaction, why+" can't run in a transaction", "put it into a file of its own whose first line is `-- no transaction`")
		case why != "" && !repeatable:
			p.say(ruleTransaction, why+" can't be repeated after an interruption", "use IF NOT EXISTS or IF EXISTS, and name the index")
		}
		p.findings = append(p.findings, p.found...)
	}
	if !p.file.inTransaction() && len(p.file.statements) != 1 {
		first(fmt.Sprintf("`-- no transaction`, with %d statements", len(p.file.statements)), "one statement per such file")
	}
	if p.file.inTransaction() && strings.Contains(p.file.text, outsideTransaction+"\n") {
		first("`-- no transaction` is not in the first line", "make it the first line")
	}
}

// outside names a statement that PostgreSQL runs only outside a transaction, and reports whether it can be repeated.
func outside(s statement) (name string, repeatable bool) {
	switch s.kind {
	case "IndexStmt":
		if index := as[createIndex](s.node); index.Concurrent {
			return "CREATE INDEX CONCURRENTLY", index.IfNotExists && index.Idxname != ""
		}
	case "DropStmt":
		if d := as[drop](s.node); d.Concurrent {
			return "DROP INDEX CONCURRENTLY", d.MissingOk
		}
	case "ReindexStmt":
		if as[struct{ Params options }](s.node).Params.has("concurrently") {
			return "REINDEX CONCURRENTLY", true
		}
	case "VacuumStmt":
		if as[struct {
			Vacuum bool `json:"is_vacuumcmd"`
		}](s.node).Vacuum {
			return "VACUUM", true
		}
	}
	return "", false
}
