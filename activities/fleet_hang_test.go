package activities_test

import (
	"fmt"
	"testing"
	"time"

	"narthex/activities"
	"narthex/internal/fleet"
)

// A church's code can lift the statement timeout and never return. The church fails at its first attempt, as the server
// answers.
func TestAChurchThatNeverAnswersFailsAtOnce(t *testing.T) {
	t.Parallel()
	f, churches := newTestFleet(t, 1)
	f.exec(churches[0], `
		ALTER TABLE narthex_migrations.versions RENAME TO real;
		CREATE VIEW narthex_migrations.versions AS SELECT version, dirty FROM narthex_migrations.real
		WHERE CASE WHEN current_setting('statement_timeout') = '0' THEN pg_sleep(3600) IS NOT NULL
			ELSE set_config('statement_timeout', '0', false) IS NOT NULL END;
		GRANT SELECT, UPDATE ON narthex_migrations.versions TO PUBLIC`)
	run := f.run()
	f.open(run)
	slice := fleet.Slice{RunID: run.RunID, Wave: fleet.LastWave, Budget: 3, Limits: fleet.Limits{
		Lock: time.Second, Statement: 100 * time.Millisecond, Patience: time.Millisecond,
	}}
	if _, err := activities.ChangeNext(f.do, t.Context(), f.server, slice, time.Now()); err != nil {
		t.Fatal(err)
	}
	failures, err := f.do.Ledger.Failures(t.Context(), run.RunID, 10)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, failure := range failures {
		got = append(got, fmt.Sprintf("%s: %s, attempt %d", failure.TenantID, failure.Error, failure.Attempts))
	}
	if want := []string{churches[0] + ": the change did not end in time, attempt 1"}; fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("the failures are %v, want %v", got, want)
	}
}
