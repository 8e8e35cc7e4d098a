package tenantserver_test

import (
	"context"
	"errors"
	"os"
	osexec "os/exec"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"narthex/internal/tenantserver"
	"narthex/migrations"
)

// scratches returns the names of the host's scratch databases and of their roles.
func (h *host) scratches() (names []string) {
	h.t.Helper()
	const query = `
		SELECT r.rolname || CASE WHEN d.oid IS NULL THEN ' without a database' ELSE '' END
		FROM pg_roles r LEFT JOIN pg_database d ON d.datname = r.rolname
		WHERE r.rolname LIKE 'scratch\_%' AND pg_has_role($1, r.oid, 'MEMBER') ORDER BY 1`
	rows, _ := h.admin.Query(h.t.Context(), query, h.role)
	names, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		h.t.Fatal(err)
	}
	return names
}

func (h *host) wantScratches(when string, want ...string) {
	h.t.Helper()
	if got := h.scratches(); !slices.Equal(got, want) {
		h.t.Errorf("%s, the scratch databases are %v, want %v", when, got, want)
	}
}

func TestAScratchDatabaseHasTheNewestSchema(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	migrated := h.describe(h.make())
	look := func(when string) {
		t.Helper()
		err := h.server.InScratch(t.Context(), tenantserver.Scratch{Life: time.Minute}, func(name string) error {
			h.wantScratches(when, name)
			c, err := h.server.Catalog(t.Context(), name, "")
			h.wantSame(c, migrated)
			h.wantRights(name, "connectable true, limit 20, PUBLIC none; "+
				"role login false, limit 20, super false, createdb false, createrole false")
			return err
		})
		if err != nil {
			t.Errorf("%s: %v", when, err)
		}
		h.wantScratches(when + ", and after that")
	}
	look("without a template")
	h.ensureTemplate()
	look("with a template")
}

func TestOnlyNarthexCanUseAScratchDatabase(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	stranger, failure := newDatabase(), errors.New("it failed")
	create(t, h.server, stranger)
	err := h.server.InScratch(t.Context(), tenantserver.Scratch{Life: time.Minute, Empty: true}, func(name string) error {
		c, err := h.server.Catalog(t.Context(), name, "")
		if err != nil || len(c.Facts) > 20 {
			t.Errorf("an empty one has %d facts (%v), want none of the schema", len(c.Facts), err)
		}
		location, _, _, _ := h.server.Location(stranger)
		var pgErr *pgconn.PgError
		_, err = pgx.Connect(t.Context(), strings.Replace(location, "/"+stranger.Name()+"?", "/"+name+"?", 1))
		if !errors.As(err, &pgErr) || pgErr.Code != "42501" {
			t.Errorf("a church's role gets %v, want SQLSTATE 42501", err)
		}
		return failure
	})
	if !errors.Is(err, failure) {
		t.Errorf("it returns %v, want the error of what it ran", err)
	}
	h.wantScratches("after a failure")
	ctx, cancel := context.WithCancel(t.Context())
	err = h.server.InScratch(ctx, tenantserver.Scratch{Life: time.Minute, Empty: true}, func(string) error {
		cancel()
		return ctx.Err()
	})
	if !errors.Is(err, context.Canceled) {
		t.Errorf("it returns %v, want that it was cancelled", err)
	}
	h.wantScratches("after a cancel")
}

// Tell the process that is killed in a scratch database its server's URL and its installation.
const scratchURL, scratchOf = "NARTHEX_TEST_SCRATCH_URL", "NARTHEX_TEST_SCRATCH_OF"

func TestKilledInAScratchDatabase(t *testing.T) {
	if os.Getenv(scratchURL) == "" {
		return // other tests run this one in a separate process
	}
	server, err := tenantserver.Open(t.Context(), os.Getenv(scratchURL), os.Getenv(scratchOf), migrations.Tenant)
	if err != nil {
		t.Fatal(err)
	}
	_ = server.InScratch(t.Context(), tenantserver.Scratch{Life: time.Hour}, func(string) error {
		return syscall.Kill(os.Getpid(), syscall.SIGKILL)
	})
}

// leaveScratch kills a process while it uses a scratch database, and returns the name of the database that it leaves.
func (h *host) leaveScratch(installation string) string {
	h.t.Helper()
	killed := osexec.Command(os.Args[0], "-test.run", "^TestKilledInAScratchDatabase$")
	killed.Env = append(os.Environ(), scratchURL+"="+h.url, scratchOf+"="+installation)
	output, err := killed.CombinedOutput()
	left := h.scratches()
	if err == nil || len(left) != 1 {
		h.t.Fatalf("the process ended with %v and left %v, want it killed and one left:\n%s", err, left, output)
	}
	return left[0]
}

// It is kept until it has expired. Other installations never drop it.
func TestALeftoverScratchDatabaseIsDropped(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	left := h.leaveScratch(h.role)
	drop := func(server *tenantserver.Server) {
		t.Helper()
		if err := server.DropExpiredScratch(t.Context()); err != nil {
			t.Error(err)
		}
	}
	drop(h.of(h.role))
	h.wantScratches("before it has expired", left)
	h.expire(left)
	drop(h.of("another installation of " + h.role))
	h.wantScratches("when another installation has looked", left)
	err := h.of(h.role).InScratch(t.Context(), tenantserver.Scratch{Life: time.Minute, Empty: true}, func(name string) error {
		h.wantScratches("when it has expired, and another was made", name)
		return nil
	})
	if err != nil {
		t.Error(err)
	}
	h.wantScratches("at the end")
}

// A process may be killed at any step of making or dropping the database.
func TestHalfMadeScratchDatabasesAreDropped(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	for _, half := range []string{`DROP DATABASE $`, `UPDATE pg_database SET datconnlimit = -2 WHERE datname = '$'`,
		`ALTER DATABASE $ ALLOW_CONNECTIONS false`} {
		left := h.leaveScratch(h.role)
		exec(t, h.admin, strings.ReplaceAll(half, "$", left))
		h.expire(left)
		if err := h.of(h.role).DropExpiredScratch(t.Context()); err != nil {
			t.Errorf("%s: %v", half, err)
		}
		h.wantScratches("after " + half)
	}
}

// expire moves a scratch database's expiry into the past.
func (h *host) expire(name string) {
	h.t.Helper()
	var mark string
	if err := h.admin.QueryRow(h.t.Context(), `SELECT shobj_description($1::regrole, 'pg_authid')`, name).Scan(&mark); err != nil {
		h.t.Fatal(err)
	}
	before, end, found := strings.Cut(mark, " until ")
	if ends, err := time.Parse(time.RFC3339Nano, end); !found || err != nil || time.Until(ends) < 50*time.Minute {
		h.t.Fatalf("the role's comment is %q (%v), want the time of its expiry in it", mark, err)
	}
	ended := time.Now().Add(-time.Second).UTC().Format("2006-01-02T15:04:05.000000Z")
	exec(h.t, h.admin, `COMMENT ON ROLE `+name+` IS '`+before+" until "+ended+`'`)
}
