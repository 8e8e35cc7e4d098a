package migrationcheck

import (
	"fmt"
	"slices"
	"strings"
)

// Safe alternatives that several rules name.
const (
	newColumn     = "add a new column beside it, fill it with a file `-- backfill:`, read it, and remove the old one two versions later"
	notValidFirst = "add it NOT VALID, and VALIDATE CONSTRAINT in a later file"
	validateLater = "VALIDATE CONSTRAINT in a file of its own, after the one that adds it"
	concurrently  = "use CONCURRENTLY, in a file of its own whose first line is `-- no transaction`"
	usingIndex    = "CREATE UNIQUE INDEX CONCURRENTLY in a file of its own, and ADD CONSTRAINT … USING INDEX in a later one"
	notNullLater  = "CHECK (… IS NOT NULL) NOT VALID in one file, VALIDATE CONSTRAINT in the next, and SET NOT NULL in a third"
	toOperators   = "leave it to operators, outside migrations"
	writeOut      = "write the statements out"
	backfillFile  = "put it into a file of its own whose first line is `-- backfill: …`"
	runnersPart   = "leave it to the program that runs the file"
)

var dataStatements = []string{"InsertStmt", "UpdateStmt", "DeleteStmt", "MergeStmt"}

func harmless(*pass, node) {}

// rules has the statements that the check knows. All others are refused.
var rules = map[string]func(*pass, node){
	"CreateStmt": checkCreateTable, "AlterTableStmt": checkAlterTable, "IndexStmt": checkCreateIndex, "DropStmt": checkDrop,

	"InsertStmt": checkData, "UpdateStmt": checkData, "DeleteStmt": checkData, "MergeStmt": checkData, "CopyStmt": checkData,
	"CreateTableAsStmt": checkCopy, "TruncateStmt": checkTruncate,

	"RenameStmt": checkRename, "AlterObjectSchemaStmt": checkRename, "AlterEnumStmt": checkEnum,

	"CreateTrigStmt": checkOnTable, "RuleStmt": checkOnTable, "CreatePolicyStmt": checkOnTable, "LockStmt": checkLock,

	"ClusterStmt": checkMaintenance, "VacuumStmt": checkVacuum, "ReindexStmt": checkReindex,

	"DoStmt": checkOpaque, "CallStmt": checkOpaque, "SelectStmt": checkOpaque,

	"VariableSetStmt": checkSettings, "TransactionStmt": checkTransaction,

	"CommentStmt": harmless, "CreateSeqStmt": harmless, "CreateEnumStmt": harmless, "CompositeTypeStmt": harmless,
	"CreateDomainStmt": checkDomain, "CreateFunctionStmt": harmless, "ViewStmt": harmless, "CreateStatsStmt": harmless,
}

func checkCreateTable(p *pass, n node) {
	create := as[createTable](n)
	name := create.Relation.name()
	t := newTable(p.file.version)
	p.cat.tables[name] = t
	for _, element := range create.TableElts {
		switch element.kind {
		case "ColumnDef":
			t.addColumn(name, p.file.name, as[columnDef](element))
		case "Constraint":
			t.addConstraint(name, p.file.name, "", as[constraintDef](element))
		}
	}
	for _, c := range t.constraints {
		p.lock(c.references)
	}
	for _, parent := range create.InhRelations {
		if p.existing(parent.RangeVar.name()) {
			p.say(ruleUnknown, "makes a partition or child of "+parent.RangeVar.name(), "say in a line `-- unsafe: reason` why its lock can't hurt")
		}
	}
}

func checkCreateIndex(p *pass, n node) {
	create := as[createIndex](n)
	on := create.Relation.name()
	if !create.Concurrent && p.existing(on) {
		p.lock(on)
		p.say(ruleIndex, fmt.Sprintf("nobody can write to %s while the index is built", on), concurrently)
	}
	if _, taken := p.cat.indexes[create.Idxname]; taken && create.IfNotExists {
		p.say(ruleIndex, fmt.Sprintf("an index %s already exists: IF NOT EXISTS would skip this one", create.Idxname), "give it another name")
	}
	made := index{table: on}
	for _, part := range create.IndexParams {
		made.columns = append(made.columns, part.IndexElem.Name)
	}
	p.cat.indexes[create.Idxname] = made
}

// Kinds of objects that DROP names together with their table.
var ofTable = []string{"OBJECT_TRIGGER", "OBJECT_RULE", "OBJECT_POLICY"}

func checkDrop(p *pass, n node) {
	d := as[drop](n)
	if d.Behavior == "DROP_CASCADE" {
		p.say(ruleRemove, "CASCADE removes what the file doesn't name", "drop each object by its name")
	}
	for _, name := range d.names() {
		switch {
		case d.RemoveType == "OBJECT_INDEX":
			on := p.cat.indexes[name].table
			if !d.Concurrent && p.existing(on) {
				p.lock(on)
				p.say(ruleIndex, fmt.Sprintf("nobody can use %s while DROP INDEX waits", orSomeTable(on)), concurrently)
			}
			delete(p.cat.indexes, name)
		case slices.Contains(ofTable, d.RemoveType):
			p.lock(name[:strings.LastIndex(name, ".")])
		case d.RemoveType == "OBJECT_TABLE":
			if p.existing(name) {
				p.remove(name, "")
			}
			p.lock(name)
			p.lock(p.referencedBy(name)...)
			p.cat.dropTable(name)
		default:
			p.remove(name, "")
		}
	}
}

// referencedBy returns the tables that a table's foreign keys refer to. Dropping the table locks them.
func (p *pass) referencedBy(name string) (others []string) {
	if t := p.cat.tables[name]; t != nil {
		for _, c := range t.constraints {
			others = append(others, c.references)
		}
	}
	slices.Sort(others)
	return others
}

func orSomeTable(name string) string {
	if name == "" {
		return "its table"
	}
	return name
}

func checkData(p *pass, n node) {
	name := as[struct{ Relation relation }](n).Relation.name()
	if !p.file.isBackfill() && p.existing(name) {
		p.data("writes to rows of " + name)
	}
}

func (p *pass) data(what string) {
	p.say(ruleData, what+" in a transaction that changes the schema", backfillFile)
}

// checkDomain remembers a domain. PostgreSQL rewrites all rows when a column of a domain type is added.
func checkDomain(p *pass, n node) {
	names := words(as[struct{ Domainname []word }](n).Domainname)
	p.cat.domains[names[len(names)-1]] = true
}

func checkCopy(p *pass, _ node) { p.data("copies rows") }

func checkTruncate(p *pass, n node) {
	for _, table := range as[struct {
		Relations []struct{ RangeVar relation }
	}](n).Relations {
		if name := table.RangeVar.name(); p.existing(name) {
			p.lock(name)
			p.say(ruleData, "removes all rows of "+name+" while nobody can use it", "DELETE, and "+backfillFile)
		}
	}
}

func checkRename(p *pass, n node) {
	if of := as[struct{ Relation relation }](n).Relation.name(); of != "" && !p.existing(of) {
		return
	} else if of != "" {
		p.lock(of)
	}
	p.say(ruleRename, "the previous release knows only the old name",
		"add the new one beside it, use it, and remove the old one two versions later")
}

func checkEnum(p *pass, n node) {
	change := as[struct{ OldVal, NewVal string }](n)
	if change.OldVal != "" {
		checkRename(p, n)
	}
	p.newValues = append(p.newValues, change.NewVal)
}

// checkOnTable checks statements that create something on a table and lock it for a moment.
func checkOnTable(p *pass, n node) {
	on := as[struct{ Relation, Table relation }](n)
	p.lock(on.Relation.name(), on.Table.name())
}

func checkLock(p *pass, n node) {
	const shareRowExclusive = 6
	lock := as[struct {
		Relations []struct{ RangeVar relation }
		Mode      int
	}](n)
	for _, table := range lock.Relations {
		if lock.Mode >= shareRowExclusive {
			p.lock(table.RangeVar.name())
		}
	}
}

func checkMaintenance(p *pass, n node) {
	p.lock(as[struct{ Relation relation }](n).Relation.name())
	p.say(ruleMaintenance, firstWords(p.now.text)+" rewrites all rows while nobody can use the table", toOperators)
}

func checkVacuum(p *pass, n node) {
	if as[struct{ Options options }](n).Options.has("full") {
		checkMaintenance(p, n)
	}
}

func checkReindex(p *pass, n node) {
	if !as[struct{ Params options }](n).Params.has("concurrently") {
		p.say(ruleMaintenance, "nobody can write while REINDEX builds the index", concurrently)
	}
}

func checkOpaque(p *pass, _ node) {
	p.say(ruleOpaque, "the check can't see what this runs: "+firstWords(p.now.text), writeOut)
}

func checkSettings(p *pass, _ node) {
	p.say(ruleSettings, "changes a setting (timeouts, role, search_path) of the connection", runnersPart)
}

func checkTransaction(p *pass, _ node) {
	p.say(ruleTransaction, "a file is one transaction, with the version in it", "remove the line: "+runnersPart)
}
