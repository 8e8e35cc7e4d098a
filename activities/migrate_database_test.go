package activities_test

import "testing"

func TestMigrateDatabase(t *testing.T) {
	t.Parallel()
	setup(t).signups().test("MigrateDatabase")
}
