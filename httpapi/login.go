package httpapi

import (
	"context"
	"errors"
	"net/http"
	"time"

	"github.com/gin-gonic/gin"

	"narthex/internal/audit"
	"narthex/internal/email"
	"narthex/internal/registry"
	"narthex/internal/tenantdb"
	"narthex/internal/text"
)

// refusalFloor is how long a refused login takes at least. It is well above the time that the look-ups and
// the comparison take, so timing does not reveal whether the email is unknown or the password is wrong.
const refusalFloor = 400 * time.Millisecond

type loginRequest struct {
	Email    string `json:"email"`
	Password string `json:"password"`
}

// login authenticates an admin by email and password and issues tokens.
func (a *api) login(c *gin.Context) error {
	arrived := time.Now()
	var request loginRequest
	if err := Decode(c, &request); err != nil {
		return err
	}
	var wrong Fields
	wrong.Check("email", text.Check(request.Email, 1, 1000))
	wrong.Check("password", text.Check(request.Password, 1, 1000))
	if err := wrong.Err(); err != nil {
		return err
	}
	ctx, address := c.Request.Context(), email.Normalise(request.Email)
	if err := a.throttle(c, loginLimits, address); err != nil {
		return err
	}
	s, err := a.authenticate(c, address, request.Password)
	if errors.Is(err, errCredentials) {
		if auditErr := a.auditRefusal(ctx, address); auditErr != nil {
			err = auditErr // an outage is never reported as a wrong password
		}
		waitUntil(ctx, arrived.Add(refusalFloor))
	}
	if err != nil {
		return err
	}
	return a.writeSession(c, http.StatusOK, s)
}

// auditRefusal records a refused login, whether the email is known or not.
func (a *api) auditRefusal(ctx context.Context, email string) error {
	emailHash, err := a.Keys.EmailIndex(email)
	if err != nil {
		return err
	}
	return a.Sessions.RecordRefusal(ctx, audit.Event{EmailHash: emailHash})
}

// authenticate finds the email's tenant through the index, and compares the password there. It always compares
// exactly once. Errors: errCredentials, also if the tenant is not active; password.ErrBusy.
func (a *api) authenticate(c *gin.Context, email, password string) (session, error) {
	ctx := c.Request.Context()
	tenant, admin, err := a.findAdmin(c, email)
	defer tenant.Release()
	if err != nil && !errors.Is(err, registry.ErrNotFound) && !errors.Is(err, tenantdb.ErrUnknown) &&
		!errors.Is(err, tenantdb.ErrNoAdmin) && !errors.Is(err, tenantdb.ErrInactive) {
		return session{}, err
	}
	same, err := a.Passwords.Matches(ctx, admin.PasswordHash, password)
	if err != nil {
		return session{}, err
	}
	if !same {
		return session{}, errCredentials
	}
	if err := tenant.TouchLogin(ctx, admin.ID); err != nil {
		return session{}, err
	}
	return session{admin: admin, church: tenant.Church, event: audit.LoggedIn}, nil
}

func (a *api) findAdmin(c *gin.Context, email string) (*tenantdb.Tenant, tenantdb.Admin, error) {
	ctx := c.Request.Context()
	login, err := a.Registry.ByEmail(ctx, email)
	if err != nil {
		return nil, tenantdb.Admin{}, err
	}
	c.Set(tenantKey, login.TenantID)
	tenant, err := a.Router.Acquire(ctx, login.TenantID)
	if err != nil {
		return nil, tenantdb.Admin{}, err
	}
	admin, err := tenant.Admin(ctx, login.AdminID)
	if err != nil {
		tenant.Release()
		return nil, tenantdb.Admin{}, err
	}
	admin.Role = login.Role // tokens state the registry's role
	return tenant, admin, nil
}

func waitUntil(ctx context.Context, when time.Time) {
	select {
	case <-time.After(time.Until(when)):
	case <-ctx.Done():
	}
}
