package systemtest

import (
	"net/http"
	"strings"
	"testing"

	"narthex/internal/dev/teststack"
	"narthex/internal/tenantdb"
)

func TestExpiredInvitation(t *testing.T) {
	t.Parallel()
	c := teststack.New(t).Church()
	person := teststack.Invitee()
	token := c.Want(http.StatusCreated, http.MethodPost, "/api/admins/invitations", person).JSON(t)["invitationToken"]
	cutOff := c.Want(http.StatusCreated, http.MethodPost, "/api/admins/invitations", teststack.Invitee()).JSON(t) // accepted halfway
	const setPassword = `UPDATE admins SET password_hash = 'hash' WHERE id = $1`
	if _, err := c.Tenant(c.TenantID()).Exec(t.Context(), setPassword, cutOff["adminId"]); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Registry.Exec(t.Context(), `UPDATE invitations SET expires_at = now() - interval '1 second'`); err != nil {
		t.Fatal(err)
	}
	teststack.WantProblem(t, c.Accept(token), http.StatusNotFound, "invitation-not-found")
	router := tenantdb.NewRouter(c.OpenRegistry(), c.Keys, 5, c.Logger())
	defer router.Close()
	for range 2 {
		if err := router.RemoveExpired(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if n := len(c.Admins()); n != 2 {
		t.Errorf("%d admins after the expired invitations were removed, want 2", n)
	}
	c.Want(http.StatusCreated, http.MethodPost, "/api/admins/invitations", person)
	var left int
	teststack.Row(t, c.Registry, `SELECT count(*) FROM invitations WHERE expires_at < now()`, nil, &left)
	if left != 0 {
		t.Errorf("%d expired invitations are left, want none", left)
	}
}

// TestCleanupKeepsAdminsThatItCannotRead accepts an invitation only in the church's database, and lets it expire. While the
// admin can't be read there, nobody knows that they have a password.
func TestCleanupKeepsAdminsThatItCannotRead(t *testing.T) {
	t.Parallel()
	c := teststack.New(t).Church()
	tenant := c.Tenant(c.TenantID())
	invited := c.Want(http.StatusCreated, http.MethodPost, "/api/admins/invitations", teststack.Invitee()).JSON(t)
	var email []byte
	const setPassword = `UPDATE admins SET password_hash = 'hash' WHERE id = $1 RETURNING encrypted_email`
	teststack.Row(t, tenant, setPassword, []any{invited["adminId"]}, &email)
	setEmail := func(email []byte) {
		t.Helper()
		const update = `UPDATE admins SET encrypted_email = $2 WHERE id = $1`
		if _, err := tenant.Exec(t.Context(), update, invited["adminId"], email); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := c.Registry.Exec(t.Context(), `UPDATE invitations SET expires_at = now() - interval '1 second'`); err != nil {
		t.Fatal(err)
	}
	router := tenantdb.NewRouter(c.OpenRegistry(), c.Keys, 5, c.Logger())
	defer router.Close()
	setEmail([]byte("damaged"))
	if err := router.RemoveExpired(t.Context()); err == nil {
		t.Error("an admin who can't be read isn't reported")
	}
	setEmail(email)
	if err := router.RemoveExpired(t.Context()); err != nil {
		t.Fatal(err)
	}
	var hash string
	teststack.Row(t, c.Registry, `SELECT password_hash FROM admins WHERE id = $1`, []any{invited["adminId"]}, &hash)
	if hash != "hash" || len(c.Admins()) != 2 {
		t.Errorf("the admin's hash is %q, and there are %d admins; want hash and 2", hash, len(c.Admins()))
	}
}

// TestCleanupReachesEveryChurch has more expired invitations than one page holds in churches that can't be cleaned up:
// one is suspended, in another the admins can't be read, in a third they are locked.
func TestCleanupReachesEveryChurch(t *testing.T) {
	t.Parallel()
	s := teststack.New(t)
	suspended, unreadable, locked, sound := s.Church(), s.Church(), s.Church(), s.Church()
	for _, c := range []teststack.Church{suspended, unreadable, locked} {
		_, err := s.Registry.Exec(t.Context(), `
			WITH invited AS (
				INSERT INTO admins (id, tenant_id, email, email_hash, password_hash, first_name, last_name, role, signup_id)
				SELECT $1 || n, $1, '', $1 || n, '', '', '', 'CO_ADMIN', '' FROM generate_series(1, 101) n RETURNING id)
			INSERT INTO invitations (id, tenant_id, admin_id, expires_at)
			SELECT id::bytea, $1, id, now() - interval '1 day' FROM invited`, c.TenantID())
		if err != nil {
			t.Fatal(err)
		}
	}
	setStatus(s, suspended.TenantID(), "suspended")
	_, err := s.Tenant(unreadable.TenantID()).Exec(t.Context(), `
		INSERT INTO admins (id, email, encrypted_email, email_hash, password_hash, first_name, last_name, role)
		SELECT $1 || n, '', 'damaged', n, '', '', '', 'CO_ADMIN' FROM generate_series(1, 101) n`, unreadable.TenantID())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Tenant(locked.TenantID()).Exec(t.Context(), `BEGIN; LOCK TABLE admins`); err != nil {
		t.Fatal(err)
	}
	person := teststack.Invitee()
	sound.Want(http.StatusCreated, http.MethodPost, "/api/admins/invitations", person)
	const expire = `UPDATE invitations SET expires_at = now() - interval '1 hour' WHERE tenant_id = $1`
	if _, err := s.Registry.Exec(t.Context(), expire, sound.TenantID()); err != nil {
		t.Fatal(err)
	}
	router := tenantdb.NewRouter(s.OpenRegistry(), s.Keys, 5, s.Logger())
	defer router.Close()
	if err := router.RemoveExpired(t.Context()); err == nil || !strings.Contains(err.Error(), "102 failed") {
		t.Errorf("the cleanup returns %v, want 101 failures for the church that can't be read, and one for the locked church", err)
	}
	sound.Want(http.StatusCreated, http.MethodPost, "/api/admins/invitations", person)
}
