// Package workflows says what happens, in order, a file a subject. It is deterministic: it imports no
// database, no HTTP and no clock, and knows the activities by name alone.
package workflows

import (
	"time"

	"go.temporal.io/sdk/workflow"

	"narthex/internal/fleet"
	"narthex/internal/invitation"
	"narthex/internal/orphan"
	"narthex/internal/readydb"
	"narthex/internal/saga"
	"narthex/internal/signup"
)

// Workflows are what a worker runs.
type Workflows struct {
	Server   string        // for people: the PostgreSQL server, host:port, on which databases are made
	Patience time.Duration // with a compensation that fails, until it is reported; 0 is a minute
	Pause    time.Duration // between the orphans that a sweep removes; 0 is ten seconds
}

// Register makes the workflows known to a worker or a replayer, under their names.
func (w *Workflows) Register(to interface {
	RegisterWorkflowWithOptions(w any, options workflow.RegisterOptions)
}) {
	to.RegisterWorkflowWithOptions(w.Signup, workflow.RegisterOptions{Name: signup.Workflow})
	to.RegisterWorkflowWithOptions(w.Invitation, workflow.RegisterOptions{Name: invitation.Workflow})
	to.RegisterWorkflowWithOptions(w.SweepOrphans, workflow.RegisterOptions{Name: orphan.Workflow})
	to.RegisterWorkflowWithOptions(w.FleetMigration, workflow.RegisterOptions{Name: fleet.Workflow})
	to.RegisterWorkflowWithOptions(w.KeepPool, workflow.RegisterOptions{Name: readydb.Workflow})
}

func (w *Workflows) saga(steps []saga.Step, input any, tenantID string) *saga.Saga {
	return saga.New(steps, input, saga.Options{TenantID: tenantID, Server: w.Server, Patience: w.Patience})
}
