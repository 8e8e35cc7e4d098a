package systemtest

import (
	"maps"
	"slices"
	"testing"

	"narthex/httpapi/services"
	"narthex/internal/dev/teststack"
	"narthex/internal/tenantdb"
	"narthex/internal/tenantserver"
)

// A church's database with the newest schema accepts all statements of the API. One that lacks a column refuses those that
// need it.
func TestStatementsFitTheSchema(t *testing.T) {
	t.Parallel()
	church := teststack.New(t).Church()
	d := tenantserver.Database{TenantID: church.TenantID()}
	d.Password = church.Tenant(d.TenantID).Config().Password
	teststack.Row(t, church.Registry, `SELECT signup_id FROM tenants WHERE id = $1`, []any{d.TenantID}, &d.SignupID)
	for _, set := range []struct {
		statements tenantserver.Statements
		damage     string
		want       []string
	}{
		{tenantserver.Statements{SQL: services.Statements(), Lists: services.Lists()}, `ALTER TABLE members DROP COLUMN opt_in_sms`,
			[]string{"findMembers", "insertAll", "insertMember", "selectMember", "selectMembers", "updateMember"}},
		{tenantserver.Statements{SQL: tenantdb.Statements(), Lists: tenantdb.Lists()}, `ALTER TABLE admins DROP COLUMN welcome_completed`,
			[]string{"selectAdmin", "selectAdmins"}},
	} {
		for name := range set.statements.Lists {
			if set.statements.SQL[name] == "" {
				t.Errorf("there are arguments for %s, which is no statement", name)
			}
		}
		for _, want := range [][]string{nil, set.want} {
			refused, err := church.Tenants[0].Probe(t.Context(), d, set.statements)
			if names := slices.Sorted(maps.Keys(refused)); err != nil || !slices.Equal(names, want) {
				t.Errorf("%v are refused (%v), want %v", refused, err, want)
			}
			if _, err := church.Tenant(d.TenantID).Exec(t.Context(), set.damage); err != nil && want == nil {
				t.Fatal(err)
			}
		}
	}
}
