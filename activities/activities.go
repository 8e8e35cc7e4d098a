// Package activities holds the steps of a signup. Each file has one step and its compensation.
// Every step is idempotent for its signup, and everything it makes carries the signup's id.
// Every compensation is idempotent. It forbids late attempts before it does anything else, leaves completed
// signups alone, removes only what carries the signup's id, and works when there is nothing to remove.
// The workflow decides the order of the steps.
package activities

import (
	"time"

	"go.temporal.io/sdk/client"

	"narthex/internal/fleet/ledger"
	"narthex/internal/registry"
	"narthex/internal/secrets"
	"narthex/internal/signup"
	"narthex/internal/tenantserver"
)

// Activities are the steps and their dependencies. Register it with a worker: the methods' names are the
// activities' names.
type Activities struct {
	Registry *registry.Registry
	Server   *tenantserver.Server // where databases are made
	Keys     *secrets.Keys
	Temporal client.Client // tells which signups are running
	Ledger   *ledger.Ledger

	FleetPause time.Duration           // between two checks of the server's health; zero for the default
	Statements tenantserver.Statements // of the services; canaries are probed with them

	ReadyDatabases int // how many are kept ready on Server; with 0 none are kept or claimed

	Others []*tenantserver.Server // further servers that hold tenants' databases
	Now    func() time.Time
}

func owner(in signup.StepInput) registry.Owner {
	return registry.Owner{RunID: in.SignupID, TenantID: in.TenantID}
}

// database returns the database that the signup makes.
func (a *Activities) database(in signup.StepInput) (tenantserver.Database, error) {
	who, err := signup.OpenApplicant(a.Keys, in.Input)
	if err != nil {
		return tenantserver.Database{}, err
	}
	return tenantserver.Database{TenantID: in.TenantID, SignupID: in.SignupID, Password: who.DatabasePassword}, nil
}

// admin returns the church's first admin, the same on both sides.
func (a *Activities) admin(in signup.StepInput) (registry.Admin, error) {
	who, err := signup.OpenApplicant(a.Keys, in.Input)
	if err != nil {
		return registry.Admin{}, err
	}
	// Not in.EmailHash: the index's key may have been replaced since the signup was asked for.
	emailHash, err := a.Keys.EmailIndex(who.Email)
	if err != nil {
		return registry.Admin{}, err
	}
	return registry.Admin{
		ID: in.AdminID, Email: who.Email, EmailHash: emailHash, PasswordHash: who.PasswordHash,
		FirstName: who.FirstName, LastName: who.LastName, Role: registry.RolePrimary, CreatedAt: in.RequestedAt,
	}, nil
}
