package activities_test

import "testing"

func TestCreateTenantAdmin(t *testing.T) {
	t.Parallel()
	setup(t).signups().test("CreateTenantAdmin")
}
