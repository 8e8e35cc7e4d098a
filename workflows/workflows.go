// Package workflows defines what happens, in which order, with one file for each subject. It is deterministic:
// it imports no database, no HTTP and no clock, and knows the activities only by name.
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

// Workflows are the workflows that a worker runs.
type Workflows struct {
	Server   string        // shown to people: the PostgreSQL server, host:port, on which databases are made
	Patience time.Duration // how long a compensation may fail before it is reported; 0 means a minute
	Pause    time.Duration // between two removals of a sweep; 0 means ten seconds

	FleetPatience time.Duration // how long a run's activity may be silent before it is tried again; 0 means 30 seconds
	FleetPause    time.Duration // before a run looks for churches of late signups; 0 means fleet.SignupTime
}

// Register registers the workflows under their names with a worker or a replayer.
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
