package saga

import (
	"strings"

	"go.temporal.io/sdk/workflow"
)

// checklist shows the progress of a workflow's steps in Temporal's UI, as its current details. It is only
// for people: no command depends on it.
type checklist struct {
	steps []Step
	names *strings.Replacer // replaces {database} and {server}
	state map[string]string // by activity
}

// The states of an activity, as Markdown.
const (
	began  = "**running**"
	worked = "done"
	failed = "**failed**"
	isLate = "**stuck**, still being tried"
)

func newChecklist(steps []Step, options Options) *checklist {
	return &checklist{steps, names(options.TenantID, options.Server), map[string]string{}}
}

func (c *checklist) text(summary string) string {
	return c.names.Replace(summary)
}

func (c *checklist) began(ctx workflow.Context, activity string) { c.set(ctx, activity, began) }
func (c *checklist) stuck(ctx workflow.Context, activity string) { c.set(ctx, activity, isLate) }

func (c *checklist) ended(ctx workflow.Context, activity string, err error) {
	if err != nil {
		c.set(ctx, activity, failed)
		return
	}
	c.set(ctx, activity, worked)
}

func (c *checklist) set(ctx workflow.Context, activity, state string) {
	c.state[activity] = state
	workflow.SetCurrentDetails(ctx, c.markdown())
}

// markdown returns a list of the steps, each with its state, and the state of its compensation once that has begun.
func (c *checklist) markdown() string {
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
