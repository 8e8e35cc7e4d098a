package migrationcheck

import (
	"fmt"
	"regexp"
	"strconv"
)

var (
	contractLine   = regexp.MustCompile(`(?m)^-- contract: (\S+) unread since (\d+)\s*$`)
	compatibleLine = regexp.MustCompile(`(?m)^-- compatible with: (\d+)\s*$`)
)

// oldestRelease returns the schema version of the oldest release that works after the file has run, as the file itself says.
func (p *pass) oldestRelease() int {
	match := compatibleLine.FindStringSubmatch(p.file.text)
	if match == nil {
		return p.file.version
	}
	oldest, _ := strconv.Atoi(match[1])
	return oldest
}

// remove refuses to remove a table, a column, or anything else that the previous release may use, unless the file says
// since when nothing has used it. A down migration may remove what its up migration has created.
func (p *pass) remove(object, column string) {
	if p.file.down {
		return
	}
	what := object
	if column != "" {
		what += "." + column
	}
	line := fmt.Sprintf("`-- contract: %s unread since N`", what)
	since := 0
	for _, match := range contractLine.FindAllStringSubmatch(p.file.text, -1) {
		if match[1] == what {
			since, _ = strconv.Atoi(match[2])
		}
	}
	newest, oldest := p.file.version-2, p.oldestRelease()
	switch {
	case since == 0:
		p.say(ruleRemove, "the previous release may still use "+what, fmt.Sprintf(
			"stop using it in a release, and remove it two versions later, with a line %s: N is that release's schema version", line))
	case since > newest:
		p.say(ruleRemove, fmt.Sprintf("%s is unread since %d, and the previous release may be older", what, since),
			fmt.Sprintf("remove it when %d is two versions ago: in %06d or later", since, since+2))
	case oldest < since:
		p.say(ruleRemove, fmt.Sprintf("`-- compatible with: %d`, but that release uses %s", oldest, what), fmt.Sprintf("say %d or later", since))
	}
	if where := mention(p.schema.Code, object, column); where != "" {
		p.say(ruleRemove, fmt.Sprintf("today's code names %s: %s", what, where), "remove it from the code, in an earlier release")
	}
}
