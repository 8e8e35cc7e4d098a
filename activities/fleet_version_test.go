package activities_test

import (
	"fmt"
	"testing"

	"narthex/internal/fleet"
)

// What a church's role can do so that its database has a version that no release has.
var wrongVersions = []string{
	`UPDATE narthex_migrations.versions SET version = 99`,
	`UPDATE narthex_migrations.versions SET version = -5`,
	`UPDATE narthex_migrations.versions SET version = 0, dirty = true`, // an attempt to get from -1 to 0
	`ALTER TABLE narthex_migrations.versions RENAME TO real;
		CREATE VIEW narthex_migrations.versions AS SELECT 4294967298 AS version, false AS dirty;
		GRANT SELECT ON narthex_migrations.versions TO PUBLIC`, // 2 in 32 bits
}

const unknownVersion = "the schema has a version that this release doesn't know"

// A church with a version that the release doesn't know fails at once. The others are changed, and the run can be undone.
func TestAChurchOfAnUnknownVersionAffectsNoOther(t *testing.T) {
	t.Parallel()
	f, churches := newTestFleet(t, len(wrongVersions)+2)
	for i, wrong := range wrongVersions {
		f.exec(churches[i], wrong)
	}
	run := f.run()
	f.open(run)
	slice := fleet.Slice{RunID: run.RunID, Server: run.Server, Wave: fleet.LastWave, AtOnce: 4, Budget: 10, Limits: briefLimits}
	if _, err := f.env.ExecuteActivity(f.do.ChangeChurches, slice); err != nil {
		t.Fatal(err)
	}
	f.wantTally(f.tally(run.RunID), fleet.Tally{Changed: 2, Failed: len(wrongVersions)})
	f.wantUnknownVersions(run.RunID, churches[:len(wrongVersions)])
	f.wantVersions(all(churches[len(wrongVersions):], 2))
	f.end(run.RunID)
	f.takeBack(run.RunID, 2)
}

// An undo must not hang on a church whose version is unknown since the run was ended.
func TestAnUndoLeavesAChurchOfAnUnknownVersionAlone(t *testing.T) {
	t.Parallel()
	f, _ := newTestFleet(t, 2)
	run := f.run()
	f.open(run)
	changed, broken := f.claim(run.RunID), f.claim(run.RunID)
	f.changeTo(changed, 2)
	f.exec(broken.TenantID, wrongVersions[0])
	f.end(run.RunID)
	f.takeBack(run.RunID, 1)
	f.wantUnknownVersions(run.RunID, []string{broken.TenantID})
	f.wantVersions(map[string]int{changed.TenantID: 1})
}

// wantUnknownVersions checks that exactly these churches failed in their first attempt, because their versions are unknown. The
// registry keeps the version that it had.
func (f *testFleet) wantUnknownVersions(runID string, churches []string) {
	f.t.Helper()
	failures, err := f.do.Ledger.Failures(f.t.Context(), runID, 10)
	if err != nil {
		f.t.Fatal(err)
	}
	got, want := map[string]string{}, map[string]string{}
	for _, failure := range failures {
		tenant, err := f.do.Registry.Tenant(f.t.Context(), failure.TenantID)
		if err != nil {
			f.t.Fatal(err)
		}
		got[failure.TenantID] = fmt.Sprintf("%s, attempt %d, registry %d", failure.Error, failure.Attempts, tenant.SchemaVersion)
	}
	for _, id := range churches {
		want[id] = unknownVersion + ", attempt 1, registry 1"
	}
	if fmt.Sprint(got) != fmt.Sprint(want) {
		f.t.Errorf("the failures are\n  %v, want\n  %v", got, want)
	}
}
