package tenantserver_test

import (
	"errors"
	"fmt"
	"testing"
	"testing/fstest"
	"time"

	"narthex/internal/schema"
	"narthex/internal/tenantserver"
)

// newBackfill has a church with so many branches, and a next migration that fills a column of theirs.
func newBackfill(t *testing.T, branches int) *upgrader {
	t.Helper()
	u := newUpgrader(t)
	files, newest := later(t)
	name := fmt.Sprintf("%06d_planted", newest)
	const up = "-- backfill: branches.id\nUPDATE branches SET name = name || '!' WHERE true /* batch */"
	files[name+".up.sql"] = &fstest.MapFile{Data: []byte(up)}
	var err error
	if u.next, err = tenantserver.Open(t.Context(), u.url, "test", files); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(u.next.Close)
	exec(t, u.conn, fmt.Sprintf(`INSERT INTO branches (id, name) SELECT lpad(i::text, 9, '0'), 'x' FROM generate_series(1, %d) i`, branches))
	return u
}

// wantFilled checks how many branches were filled, each once.
func (u *upgrader) wantFilled(want int) {
	u.t.Helper()
	var once, more int
	const count = `SELECT count(*) FILTER (WHERE name = 'x!'), count(*) FILTER (WHERE name LIKE 'x!!%') FROM branches`
	if err := u.conn.QueryRow(u.t.Context(), count).Scan(&once, &more); err != nil || once != want || more != 0 {
		u.t.Errorf("%d branches were filled once and %d more often (%v), want %d once", once, more, err, want)
	}
}

// The session that holds the church's lock is idle during a backfill, for longer than PostgreSQL lets an idle session live.
func TestALongBackfillKeepsTheLock(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("takes 20 seconds")
	}
	u := newBackfill(t, 12_000)
	u.asChurch(fmt.Sprintf(`
		CREATE TABLE batches (locked bool);
		CREATE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql AS $$
		BEGIN
			PERFORM pg_sleep(0.8);
			INSERT INTO batches SELECT EXISTS (SELECT FROM pg_locks WHERE locktype = 'advisory' AND granted
				AND (classid::bigint << 32 | objid::bigint) = hashtextextended('tenant %s', 0));
			RETURN NULL;
		END $$;
		CREATE TRIGGER slow AFTER UPDATE ON branches EXECUTE FUNCTION slow()`, u.d.TenantID))
	limits := tenantserver.Limits{Lock: 500 * time.Millisecond, Statement: 2 * time.Second, Patience: time.Second}
	change := u.there
	change.Until = time.Now().Add(time.Hour)
	if err := u.change(change, limits); err != nil {
		t.Error(err)
	}
	u.wantVersion(u.there.To)
	u.wantFilled(12_000)
	var batches, unlocked int
	err := u.conn.QueryRow(t.Context(), `SELECT count(*), count(*) FILTER (WHERE NOT locked) FROM batches`).Scan(&batches, &unlocked)
	if err != nil || batches != 12 || unlocked != 0 {
		t.Errorf("of %d batches, %d ran without the church's lock (%v), want none of 12", batches, unlocked, err)
	}
}

// A backfill doesn't keep its church's lock, and a pause of its run waiting, for longer than a slice: it stops, and continues there.
func TestABackfillPauses(t *testing.T) {
	t.Parallel()
	u := newBackfill(t, 2_500)
	change := u.there
	change.Until = time.Now()
	for batches := range 3 {
		if err := u.change(change, usualLimits); !errors.Is(err, schema.ErrPaused) {
			t.Fatalf("after %d batches: %v, want ErrPaused", batches, err)
		}
		u.wantFilled(min((batches+1)*1000, 2_500))
		u.wantVersion(u.there.From)
	}
	if err := u.change(change, usualLimits); err != nil {
		t.Error(err)
	}
	u.wantVersion(u.there.To)
	u.wantFilled(2_500)
}
