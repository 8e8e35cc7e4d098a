package registry_test

import (
	"testing"

	"narthex/internal/registry"
)

// BenchmarkOpenSession is all that a login asks of the registry once the password was compared.
func BenchmarkOpenSession(b *testing.B) {
	r, pool := open(b)
	owner := newOwner()
	enter(b, r, owner, "hash")
	proven := registry.NewSession{TenantID: owner.TenantID, AdminID: adminOf(b, pool), Role: registry.RolePrimary,
		PasswordHash: "hash", Event: registry.EventLoggedIn}
	for b.Loop() {
		if _, _, err := r.OpenSession(b.Context(), proven); err != nil {
			b.Fatal(err)
		}
	}
}
