package migrationcheck

import (
	"encoding/json"
	"fmt"
	"regexp"
	"slices"
	"strings"
)

var backfillForm = regexp.MustCompile(`^-- backfill: ([a-z_][a-z0-9_]*)\.([a-z_][a-z0-9_]*)$`)

// batchMark is where internal/schema inserts a batch's condition: AND the key is in the batch.
const batchMark = "/* batch */"

// checkBackfill checks that the file can run in batches, with each row in exactly one batch.
func (p *pass) checkBackfill() {
	refuse := func(says, instead string) {
		p.findings = append(p.findings, Finding{p.file.name, 1, ruleBackfill, says, instead})
	}
	words := backfillForm.FindStringSubmatch(p.file.head)
	switch {
	case words == nil:
		refuse("the first line doesn't name a key", "`-- backfill: TABLE.KEY`, with the table's primary key")
		return
	case len(p.file.statements) != 1:
		refuse(fmt.Sprintf("a backfill has %d statements", len(p.file.statements)), "one statement per such file")
		return
	case !batchIsACondition(p.file.text):
		refuse("a batch's condition wouldn't apply to all rows",
			"put "+batchMark+" once, after the conditions of WHERE, and put OR in parentheses")
	}
	if t := p.cat.tables[words[1]]; t != nil && (t.columns[words[2]] == nil || !t.columns[words[2]].notNull) {
		refuse(fmt.Sprintf("%s.%s is not a key: rows without it belong to no batch", words[1], words[2]), "name the table's primary key")
	}
}

// batchIsACondition reports whether the text in the mark's place is one of the conditions that a row must meet.
func batchIsACondition(text string) (found bool) {
	if strings.Count(text, batchMark) != 1 {
		return false
	}
	statements, err := parse(strings.Replace(text, batchMark, "AND $1", 1))
	if err != nil {
		return false
	}
	walk(statements[0].body, func(kind string, body json.RawMessage) {
		var condition node
		if kind != "whereClause" || json.Unmarshal(body, &condition) != nil || condition.kind != "BoolExpr" {
			return
		}
		all := as[struct {
			Boolop string
			Args   []node
		}](condition)
		isParameter := func(arg node) bool { return arg.kind == "ParamRef" }
		found = found || all.Boolop == "AND_EXPR" && slices.ContainsFunc(all.Args, isParameter)
	})
	return found
}
