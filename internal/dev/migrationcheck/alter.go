package migrationcheck

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
)

// Whether the parts of ALTER TABLE that have no rule lock the table.
var (
	locking = []string{
		"AT_ColumnDefault", "AT_DropNotNull", "AT_SetStorage", "AT_SetCompression", "AT_AlterConstraint", "AT_AddIdentity", "AT_SetIdentity",
		"AT_DropIdentity", "AT_DropExpression", "AT_EnableTrig", "AT_EnableTrigAll", "AT_EnableTrigUser", "AT_DisableTrig", "AT_DisableTrigAll",
		"AT_DisableTrigUser",
	}
	notLocking = []string{"AT_SetStatistics", "AT_SetOptions", "AT_ResetOptions", "AT_SetRelOptions", "AT_ResetRelOptions"}
	copying    = []string{"AT_SetLogged", "AT_SetUnLogged", "AT_SetTableSpace", "AT_SetAccessMethod"}
)

func checkAlterTable(p *pass, n node) {
	alter := as[alterTable](n)
	a := alteration{p, alter.Relation.name(), p.cat.tables[alter.Relation.name()]}
	if alter.Objtype != "OBJECT_TABLE" {
		p.say(ruleUnknown, "the check doesn't know this kind of ALTER", "find out what it locks, and explain it in a line `-- unsafe: reason`")
		return
	}
	if a.table == nil { // no file that was read creates it
		a.table = newTable(0)
	}
	commands := alter.Cmds
	slices.SortStableFunc(commands, func(x, y struct{ AlterTableCmd alterCommand }) int { // PostgreSQL drops first
		return order(x.AlterTableCmd) - order(y.AlterTableCmd)
	})
	for _, command := range commands {
		a.command(command.AlterTableCmd)
	}
}

func order(c alterCommand) int {
	if strings.HasPrefix(c.Subtype, "AT_Drop") {
		return 0
	}
	return 1
}

// alteration is an ALTER TABLE.
type alteration struct {
	*pass
	name  string
	table *table
}

func (a alteration) command(c alterCommand) {
	inUse := a.existing(a.name)
	if c.Subtype != "AT_ValidateConstraint" && !slices.Contains(notLocking, c.Subtype) {
		a.lock(a.name)
	}
	if c.Behavior == "DROP_CASCADE" {
		a.say(ruleRemove, "CASCADE removes what the file doesn't name", "drop each object by its name")
	}
	switch {
	case c.Subtype == "AT_AddColumn":
		a.addColumn(inUse, as[columnDef](c.Def))
	case c.Subtype == "AT_DropColumn":
		if inUse {
			a.remove(a.name, c.Name)
		}
		delete(a.table.columns, c.Name)
	case c.Subtype == "AT_AlterColumnType":
		a.changeType(inUse, c.Name, as[columnDef](c.Def))
	case c.Subtype == "AT_SetNotNull":
		a.setNotNull(inUse, c.Name)
	case c.Subtype == "AT_AddConstraint":
		a.addConstraint(inUse, as[constraintDef](c.Def))
	case c.Subtype == "AT_ValidateConstraint":
		a.validate(inUse, c.Name)
	case c.Subtype == "AT_DropConstraint":
		if dropped := a.table.constraints[c.Name]; dropped != nil {
			a.lock(dropped.references)
		}
		delete(a.table.constraints, c.Name)
	case slices.Contains(copying, c.Subtype):
		if inUse {
			a.say(ruleMaintenance, fmt.Sprintf("rewrites all rows of %s while nobody can use it", a.name), toOperators)
		}
	case c.Subtype == "AT_DropNotNull":
		if column := a.table.columns[c.Name]; column != nil {
			column.notNull = false
		}
	case inUse && !slices.Contains(locking, c.Subtype) && !slices.Contains(notLocking, c.Subtype):
		a.say(ruleUnknown, fmt.Sprintf("the check doesn't know what this does to %s: %s", a.name, strings.TrimPrefix(c.Subtype, "AT_")),
			"find out, then add it to the check or explain it in a line `-- unsafe: reason`")
	}
}

func (a alteration) addColumn(inUse bool, def columnDef) {
	if inUse {
		a.checkNewColumn(def)
	}
	a.table.addColumn(a.name, a.file.name, def)
	for _, item := range def.Constraints {
		a.lock(item.Constraint.Pktable.name())
	}
}

func (a alteration) checkNewColumn(def columnDef) {
	what := a.name + "." + def.Colname
	var byDefault json.RawMessage
	has := map[string]bool{}
	for _, item := range def.Constraints {
		has[item.Constraint.Contype] = true
		if item.Constraint.Contype == "CONSTR_DEFAULT" && !isNull(item.Constraint.RawExpr) {
			byDefault = item.Constraint.RawExpr
		}
	}
	function := volatileIn(byDefault)
	computed := has["CONSTR_GENERATED"] || has["CONSTR_IDENTITY"] || strings.HasSuffix(typeOf(def.TypeName).name, "serial")
	const fillLater = "add the column without it, SET DEFAULT for new rows, and fill the old ones with a file `-- backfill:`"
	switch {
	case has["CONSTR_GENERATED"]:
		a.say(ruleRewrite, what+" is computed for all rows while nobody can use the table",
			"add a plain column, write it in the code, and fill the old rows with a file `-- backfill:`")
	case computed:
		a.say(ruleRewrite, what+" is numbered in all rows while nobody can use the table", fillLater)
	case a.cat.domains[typeOf(def.TypeName).name]:
		a.say(ruleRewrite, what+" has a domain type, so all rows are rewritten", "use the domain's base type, and a CHECK that is NOT VALID")
	case function != "":
		a.say(ruleRewrite, fmt.Sprintf("%s() may give each row a different value, so all rows are rewritten", function), fillLater)
	case has["CONSTR_NOTNULL"] && byDefault == nil:
		a.say(ruleNotNull, what+" would be NULL in existing rows", "give it a constant DEFAULT, or "+notNullLater)
	}
	if has["CONSTR_CHECK"] {
		a.say(ruleCheck, "all rows are read for the check of "+what+" while nobody can use the table", notValidFirst)
	}
	if has["CONSTR_UNIQUE"] || has["CONSTR_PRIMARY"] {
		a.say(ruleUnique, "nobody can use "+a.name+" while the index is built", usingIndex)
	}
	if has["CONSTR_FOREIGN"] && byDefault != nil {
		a.say(ruleForeignKey, "all rows are read for the foreign key of "+what, notValidFirst)
	}
}

func (a alteration) changeType(inUse bool, name string, def columnDef) {
	column := a.table.columns[name]
	from, to := columnType{}, typeOf(def.TypeName)
	if column != nil {
		from = column.typ
		column.typ = to
	}
	if !inUse {
		return
	}
	if !keepsRows(from, to) || def.CollClause != nil || !isSameColumn(def.RawDefault, name, to) {
		a.say(ruleRewrite, fmt.Sprintf("rewrites all rows of %s, or its indexes, while nobody can use it", a.name), newColumn)
	}
	for called, c := range a.table.constraints {
		if slices.Contains(c.reads, name) {
			a.say(ruleCheck, "all rows are read for the check "+called+" while nobody can use the table", newColumn)
		}
	}
}

// isSameColumn reports whether USING has no effect in a change of a column's type.
func isSameColumn(using json.RawMessage, name string, to columnType) bool {
	if using == nil {
		return true
	}
	var expression node
	if json.Unmarshal(using, &expression) != nil {
		return false
	}
	if expression.kind == "TypeCast" {
		cast := as[struct {
			Arg      node
			TypeName typeName
		}](expression)
		if !typeOf(cast.TypeName).equal(to) {
			return false
		}
		expression = cast.Arg
	}
	return expression.kind == "ColumnRef" && columnName(expression.body) == name
}

func (a alteration) setNotNull(inUse bool, name string) {
	column := a.table.columns[name]
	proven := !inUse || column != nil && column.notNull
	for _, c := range a.table.constraints {
		proven = proven || slices.Contains(c.notNull, name) && c.validated != "" && c.validated != a.file.name
	}
	if !proven {
		a.say(ruleNotNull, fmt.Sprintf("all rows are read to look for a NULL in %s.%s while nobody can use the table", a.name, name),
			notNullLater)
	}
	if column != nil {
		column.notNull = true
	}
}

func (a alteration) addConstraint(inUse bool, def constraintDef) {
	a.lock(def.Pktable.name())
	if inUse {
		switch {
		case def.Contype == "CONSTR_CHECK" && !def.SkipValidation:
			a.say(ruleCheck, "all rows are read while nobody can use "+a.name, notValidFirst)
		case def.Contype == "CONSTR_FOREIGN" && !def.SkipValidation:
			a.say(ruleForeignKey, fmt.Sprintf("all rows are read while nobody can write to %s or %s", a.name, def.Pktable.name()),
				notValidFirst)
		case def.Contype == "CONSTR_EXCLUSION":
			a.say(ruleUnique, "nobody can use "+a.name+" while the index is built", "there is no safe way for EXCLUDE: use a new table")
		case def.Indexname == "" && (def.Contype == "CONSTR_UNIQUE" || def.Contype == "CONSTR_PRIMARY"):
			a.say(ruleUnique, "nobody can use "+a.name+" while the index is built", usingIndex)
		case def.Contype == "CONSTR_PRIMARY":
			a.checkKeyColumns(def.Indexname)
		}
	}
	a.table.addConstraint(a.name, a.file.name, "", def)
}

func (a alteration) checkKeyColumns(index string) {
	for _, name := range a.cat.indexes[index].columns {
		if column := a.table.columns[name]; column == nil || !column.notNull {
			a.say(ruleNotNull, fmt.Sprintf("a primary key is NOT NULL, and %s.%s isn't yet: all rows are read", a.name, name), notNullLater)
		}
	}
}

func (a alteration) validate(inUse bool, name string) {
	c := a.table.constraints[name]
	switch {
	case c != nil && c.validated == "" && c.added == a.file.name && inUse:
		a.say(ruleValidate, "all rows are read while the lock of ADD CONSTRAINT is held", validateLater)
	case len(a.locked) > 0 && inUse:
		a.say(ruleValidate, "all rows are read while "+strings.Join(a.locked, ", ")+" is locked", validateLater)
	}
	if c != nil && c.validated == "" {
		c.validated = a.file.name
	}
	a.validated = a.validated || inUse
}
