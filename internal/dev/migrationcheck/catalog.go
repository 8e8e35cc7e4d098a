package migrationcheck

import (
	"encoding/json"
	"slices"
	"strings"
)

// catalog is what the tables look like after the migrations so far.
type catalog struct {
	tables  map[string]*table
	indexes map[string]index
	domains map[string]bool
}

type table struct {
	version     int // of the migration that created it
	columns     map[string]*column
	constraints map[string]*constraint
}

type column struct {
	typ     columnType
	notNull bool
}

type constraint struct {
	references string   // the table that a foreign key refers to
	reads      []string // the columns that a check reads
	notNull    []string // the columns that a check keeps from being NULL
	added      string   // the file that added it
	validated  string   // the file since which it holds for every row; empty if rows may violate it
}

type index struct {
	table   string
	columns []string
}

func newCatalog() *catalog {
	return &catalog{tables: map[string]*table{}, indexes: map[string]index{}, domains: map[string]bool{}}
}

func newTable(version int) *table {
	return &table{version: version, columns: map[string]*column{}, constraints: map[string]*constraint{}}
}

// addColumn adds the column and the constraints in its definition.
func (t *table) addColumn(tableName, file string, def columnDef) {
	c := &column{typ: typeOf(def.TypeName)}
	t.columns[def.Colname] = c
	for _, item := range def.Constraints {
		switch item.Constraint.Contype {
		case "CONSTR_NOTNULL", "CONSTR_PRIMARY", "CONSTR_IDENTITY":
			c.notNull = true
		}
		t.addConstraint(tableName, file, def.Colname, item.Constraint)
	}
}

// addConstraint adds a constraint of the table, or of one column.
func (t *table) addConstraint(tableName, file, columnName string, def constraintDef) {
	c := &constraint{references: def.Pktable.name(), added: file, validated: file}
	if def.SkipValidation {
		c.validated = ""
	}
	columns := append(words(def.Keys), words(def.FkAttrs)...)
	if columnName != "" {
		columns = []string{columnName}
	}
	suffix := ""
	switch def.Contype {
	case "CONSTR_CHECK":
		c.reads, c.notNull = columnsIn(def.RawExpr), notNullIn(def.RawExpr)
		suffix = "check"
		columns = c.reads
	case "CONSTR_FOREIGN":
		suffix = "fkey"
	case "CONSTR_PRIMARY":
		for _, name := range columns {
			if t.columns[name] != nil {
				t.columns[name].notNull = true
			}
		}
		suffix, columns = "pkey", nil
	case "CONSTR_UNIQUE":
		suffix = "key"
	default:
		return
	}
	name := def.Conname
	if name == "" { // PostgreSQL's default name
		name = strings.Join(slices.Concat([]string{tableName}, columns, []string{suffix}), "_")
	}
	t.constraints[name] = c
}

func (c *catalog) dropTable(name string) {
	delete(c.tables, name)
	for index, of := range c.indexes {
		if of.table == name {
			delete(c.indexes, index)
		}
	}
}

// columnsIn returns the columns that an expression reads.
func columnsIn(expression json.RawMessage) []string {
	var all []string
	walk(expression, func(kind string, body json.RawMessage) {
		if kind == "ColumnRef" {
			all = append(all, columnName(body))
		}
	})
	slices.Sort(all)
	return slices.Compact(all)
}

func columnName(reference json.RawMessage) string {
	fields := words(as[struct{ Fields []word }](node{"ColumnRef", reference}).Fields)
	if len(fields) == 0 { // *
		return ""
	}
	return fields[len(fields)-1]
}

// notNullIn returns the columns that a check requires to be not NULL, alone or combined with AND.
func notNullIn(check json.RawMessage) []string {
	var expression node
	if err := json.Unmarshal(check, &expression); err != nil {
		return nil
	}
	switch expression.kind {
	case "NullTest":
		test := as[struct {
			Arg          node
			Nulltesttype string
		}](expression)
		if test.Nulltesttype == "IS_NOT_NULL" && test.Arg.kind == "ColumnRef" {
			return []string{columnName(test.Arg.body)}
		}
	case "BoolExpr":
		all := as[struct {
			Boolop string
			Args   []json.RawMessage
		}](expression)
		if all.Boolop != "AND_EXPR" {
			return nil
		}
		var columns []string
		for _, arg := range all.Args {
			columns = append(columns, notNullIn(arg)...)
		}
		return columns
	}
	return nil
}
