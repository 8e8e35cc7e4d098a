package workflows

import (
	"strings"

	"go.temporal.io/sdk/workflow"

	"narthex/internal/ids"
	"narthex/internal/signup"
)

// Checklist shows in Temporal's UI, as a workflow's current details, how far its steps have come. It is
// for people alone: no command depends on it. A nil one shows nothing.
type Checklist struct {
	steps []signup.Step
	names *strings.Replacer // what stands for {database} and {server}
	state map[string]string // by activity
}

// The states of an activity, as Markdown.
const (
	began  = "**running**"
	worked = "done"
	failed = "**failed**"
	isLate = "**stuck**, still being tried"
)

func newChecklist(steps []signup.Step, tenantID, server string) *Checklist {
	return &Checklist{steps, strings.NewReplacer("{database}", ids.DatabaseName(tenantID), "{server}", server), map[string]string{}}
}

func (c *Checklist) text(summary string) string {
	if c == nil {
		return summary
	}
	return c.names.Replace(summary)
}

func (c *Checklist) began(ctx workflow.Context, activity string) { c.set(ctx, activity, began) }
func (c *Checklist) stuck(ctx workflow.Context, activity string) { c.set(ctx, activity, isLate) }

func (c *Checklist) ended(ctx workflow.Context, activity string, err error) {
	if err != nil {
		c.set(ctx, activity, failed)
		return
	}
	c.set(ctx, activity, worked)
}

func (c *Checklist) set(ctx workflow.Context, activity, state string) {
	if c == nil {
		return
	}
	c.state[activity] = state
	workflow.SetCurrentDetails(ctx, c.markdown())
}

// markdown is a list of the steps, each with what became of it, and of its compensation once that has begun.
func (c *Checklist) markdown() string {
	var lines strings.Builder
	for _, step := range c.steps {
		box := "- [ ] "
		if c.state[step.Do] == worked {
			box = "- [x] "
		}
		lines.WriteString(box + c.text(step.Doing))
		if state := c.state[step.Do]; state != "" && state != worked {
			lines.WriteString(": " + state)
		}
		if state := c.state[step.Undo]; state != "" {
			lines.WriteString("; undo: " + state)
		}
		lines.WriteByte('\n')
	}
	return lines.String()
}
