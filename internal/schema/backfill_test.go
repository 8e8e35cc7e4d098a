package schema_test

import (
	"errors"
	"testing"
	"testing/fstest"
	"time"

	"github.com/jackc/pgx/v5"

	"narthex/internal/schema"
)

// atBackfill returns a database with members of the ids 000001 to 002500, and the backfill that is due there.
func atBackfill(t *testing.T) (*pgx.Conn, schema.Step) {
	t.Helper()
	const up = "-- backfill: members.id\nUPDATE members SET visits = visits + 1 WHERE true /* batch */"
	files := fstest.MapFS{
		"000001_members.up.sql": {Data: []byte(`CREATE TABLE members (id text PRIMARY KEY, visits int NOT NULL DEFAULT 0)`)},
	}
	conn := open(t)
	if err := schema.Up(t.Context(), conn.Config(), files, nil); err != nil {
		t.Fatal(err)
	}
	exec(t, conn, `INSERT INTO members (id) SELECT lpad(i::text, 6, '0') FROM generate_series(1, 2500) i`)
	files["000002_backfill.up.sql"] = &fstest.MapFile{Data: []byte(up)}
	steps, err := schema.Steps(files, 1, 2)
	if err != nil {
		t.Fatal(err)
	}
	return conn, steps[0]
}

// onUpdate has a trigger that adds members after each batch, 40 times at most.
func onUpdate(t *testing.T, conn *pgx.Conn, insert string) {
	t.Helper()
	exec(t, conn, `
		CREATE SEQUENCE added MINVALUE 0 START 0;
		CREATE FUNCTION add() RETURNS trigger LANGUAGE plpgsql AS $$
		BEGIN
			IF nextval('added') < 40 THEN
				`+insert+`;
			END IF;
			RETURN NULL;
		END $$;
		CREATE TRIGGER add AFTER UPDATE ON members EXECUTE FUNCTION add()`)
}

// addBefore2500 adds a batch of members after those that it has added before.
const addBefore2500 = `
	INSERT INTO members (id) SELECT '002499-' || lpad((currval('added') * 1000 + i)::text, 8, '0') FROM generate_series(0, 999) i`

// wantVisits checks how many of the first 2,500 members, and of those that were added, were changed once, and that none was
// changed more often.
func wantVisits(t *testing.T, conn *pgx.Conn, old, added int) {
	t.Helper()
	const count = `
		SELECT count(*) FILTER (WHERE visits = 1 AND length(id) = 6), count(*) FILTER (WHERE visits = 1 AND length(id) <> 6),
			count(*) FILTER (WHERE visits > 1) FROM members`
	var gotOld, gotAdded, more int
	err := conn.QueryRow(t.Context(), count).Scan(&gotOld, &gotAdded, &more)
	if err != nil || gotOld != old || gotAdded != added || more != 0 {
		t.Errorf("%d old and %d added members were changed once, %d more often (%v), want %d, %d and 0", gotOld, gotAdded, more, err, old, added)
	}
}

// A backfill ends at the greatest key that there was when it began, also if it paused in between.
func TestABackfillDoesNotFollowNewRows(t *testing.T) {
	t.Parallel()
	for name, pauses := range map[string]bool{"at a stretch": false, "with pauses": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			conn, step := atBackfill(t)
			onUpdate(t, conn, `INSERT INTO members (id) SELECT '9' || lpad(currval('added')::text, 8, '0')`)
			err := schema.ErrPaused
			for took := 0; took < 10 && errors.Is(err, schema.ErrPaused); took++ {
				if pauses {
					step.Until = time.Now()
				}
				err = schema.Take(t.Context(), conn, step)
			}
			if err != nil {
				t.Errorf("the backfill ends with %v, want no error", err)
			}
			wantVersion(t, conn, 2)
			wantVisits(t, conn, 2500, 0)
		})
	}
}

// Between two keys there is always room for another. A backfill that finds ever more rows fails, also if it pauses. When the
// cause is removed, another attempt continues.
func TestABackfillIsNotEndless(t *testing.T) {
	t.Parallel()
	for name, pauses := range map[string]bool{"at a stretch": false, "with pauses": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			conn, step := atBackfill(t)
			onUpdate(t, conn, addBefore2500)
			err := schema.ErrPaused
			for took := 0; took < 100 && errors.Is(err, schema.ErrPaused); took++ {
				if pauses {
					step.Until = time.Now()
				}
				err = schema.Take(t.Context(), conn, step)
			}
			if !errors.Is(err, schema.ErrEndless) {
				t.Errorf("the backfill ends with %v, want ErrEndless", err)
			}
			wantVersion(t, conn, 1)
			exec(t, conn, `DROP TRIGGER add ON members`)
			step.Until = time.Time{}
			if err := schema.Take(t.Context(), conn, step); err != nil {
				t.Errorf("the next attempt ends with %v, want no error", err)
			}
			wantVersion(t, conn, 2)
			wantVisits(t, conn, 2500, 15_000)
		})
	}
}

// A church can write to the stored position. An attempt doesn't look at it again: a batch begins where the last one ended.
func TestABackfillOnlyMovesForward(t *testing.T) {
	t.Parallel()
	conn, step := atBackfill(t)
	exec(t, conn, `
		CREATE TABLE narthex_migrations.backfills (version integer PRIMARY KEY, position text, last text, batches integer NOT NULL);
		CREATE SEQUENCE resets;
		CREATE FUNCTION back() RETURNS trigger LANGUAGE plpgsql AS $$
		BEGIN
			IF nextval('resets') < 20 THEN
				NEW.position := NULL; NEW.last := 'z'; NEW.batches := 1000;
			END IF;
			RETURN NEW;
		END $$;
		CREATE TRIGGER back BEFORE INSERT OR UPDATE ON narthex_migrations.backfills FOR EACH ROW EXECUTE FUNCTION back()`)
	if err := schema.Take(t.Context(), conn, step); err != nil {
		t.Errorf("the backfill ends with %v, want no error", err)
	}
	wantVersion(t, conn, 2)
	wantVisits(t, conn, 2500, 0)
}
