package tenantserver_test

import (
	"testing"
	"time"

	"narthex/internal/dev/testenv"
	"narthex/internal/ids"
	"narthex/internal/tenantserver"
)

// A server reports how far its standby lags, how many connections are in use, and how long reads take. The role that asks
// is not a superuser.
func TestHealth(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	d := h.make()
	exec(t, h.admin, `GRANT pg_read_all_stats TO `+h.role)
	standby := testenv.NewStandby(t, testenv.PostgresURL(t))
	health := func(d tenantserver.Database) tenantserver.Health {
		t.Helper()
		found, err := h.server.Health(t.Context(), d)
		if err != nil {
			t.Fatal(err)
		}
		return found
	}
	well := health(d)
	if well.Connections <= 0 || well.Connections > 1 || well.Read <= 0 || well.Read > time.Minute || well.Vacuums != 0 {
		t.Errorf("the server's health is %+v, want some connections, a time to read and no vacuum", well)
	}
	if gone := health(tenantserver.Database{TenantID: ids.New()}); gone.Read != 0 {
		t.Errorf("reads of a church that doesn't exist take %s, want no time", gone.Read)
	}
	await := func(what string, ok func(tenantserver.Health) bool) {
		t.Helper()
		var last tenantserver.Health
		for deadline := time.Now().Add(30 * time.Second); time.Now().Before(deadline); {
			exec(t, h.admin, `SELECT pg_logical_emit_message(true, '', '')`) // WAL
			if last = health(d); ok(last) {
				return
			}
		}
		t.Errorf("%s: not true after 30 seconds, the health is %+v", what, last)
	}
	await("the standby has caught up", func(h tenantserver.Health) bool { return h.Lag < 100*time.Millisecond })
	standby.Stall(true)
	await("a standby that applies nothing lags", func(h tenantserver.Health) bool { return h.Lag > 500*time.Millisecond })
	standby.Stall(false)
	await("the standby has caught up again", func(h tenantserver.Health) bool { return h.Lag < 100*time.Millisecond })
}

// A church's owner can forbid connections to its database. That says nothing about the server's health.
func TestAChurchThatRefusesConnectionsIsNoStrain(t *testing.T) {
	t.Parallel()
	u := newUpgrader(t)
	u.asChurch(`ALTER DATABASE ` + u.d.Name() + ` CONNECTION LIMIT 0`)
	h, err := u.server.Health(t.Context(), u.d)
	if err != nil || h.Connections <= 0 || h.Read != 0 {
		t.Errorf("the server's health is %+v (%v), want some connections, no time to read and no error", h, err)
	}
}
