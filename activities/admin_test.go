package activities_test

import "testing"

func TestCreateAdmin(t *testing.T) {
	t.Parallel()
	setup(t).signups().test("CreateAdmin")
}
