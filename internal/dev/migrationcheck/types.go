package migrationcheck

import (
	"encoding/json"
	"slices"
)

// columnType is a type with its modifiers in parentheses, such as varchar(20).
type columnType struct {
	name  string
	mods  []int
	array bool
}

func typeOf(t typeName) columnType {
	names := words(t.Names)
	if len(names) == 0 {
		return columnType{}
	}
	typ := columnType{name: names[len(names)-1], array: len(t.ArrayBounds) > 0}
	for _, mod := range t.Typmods {
		typ.mods = append(typ.mods, as[struct{ Ival struct{ Ival int } }](mod).Ival.Ival)
	}
	return typ
}

func (t columnType) equal(other columnType) bool {
	return t.name == other.name && t.array == other.array && slices.Equal(t.mods, other.mods)
}

// keepsRows reports whether PostgreSQL changes a column's type without rewriting or reading its rows. If in doubt, it
// returns false.
func keepsRows(from, to columnType) bool {
	if from.name == "" || from.array || to.array {
		return from.name != "" && from.equal(to)
	}
	unlimited := len(to.mods) == 0
	switch from.name + " " + to.name {
	case "varchar varchar", "varbit varbit":
		return unlimited || len(from.mods) == 1 && from.mods[0] <= to.mods[0]
	case "varchar text", "text varchar", "text text", "cidr inet":
		return unlimited
	case "numeric numeric": // more digits, but the same number after the point
		return unlimited || len(from.mods) == 2 && len(to.mods) == 2 && from.mods[0] <= to.mods[0] && from.mods[1] == to.mods[1]
	case "timestamp timestamp", "timestamptz timestamptz", "time time", "timetz timetz":
		return unlimited || len(from.mods) == 1 && from.mods[0] <= to.mods[0]
	}
	return from.equal(to)
}

// steady are functions that PostgreSQL calls once for all rows, not for each, if they are the default of a new column.
var steady = []string{"now", "transaction_timestamp", "statement_timestamp", "lower", "upper", "to_timestamp", "make_date", "date_trunc"}

// volatileIn returns a function in a default that PostgreSQL may call for each row.
func volatileIn(expression json.RawMessage) (function string) {
	walk(expression, func(kind string, body json.RawMessage) {
		if kind != "FuncCall" {
			return
		}
		names := words(as[struct{ Funcname []word }](node{kind, body}).Funcname)
		if name := names[len(names)-1]; !slices.Contains(steady, name) {
			function = name
		}
	})
	return function
}

func isNull(expression json.RawMessage) bool {
	var constant struct {
		AConst struct{ Isnull bool } `json:"A_Const"`
	}
	return json.Unmarshal(expression, &constant) == nil && constant.AConst.Isnull
}
