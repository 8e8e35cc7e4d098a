package httpapi

import (
	"context"
	"errors"
	"net/http"
	"time"

	"github.com/gin-gonic/gin"
	"golang.org/x/crypto/bcrypt"

	"narthex/internal/registry"
	"narthex/internal/tenantdb"
)

// refusalFloor is how long a refused login takes at the least. It is well above what the look-ups and
// the comparison take, so that the time does not tell an unknown email from a wrong password.
const refusalFloor = 400 * time.Millisecond

type loginRequest struct {
	Email    string `json:"email"`
	Password string `json:"password"`
}

// login proves an admin by email and password and gives out tokens.
func (a *api) login(c *gin.Context) error {
	arrived := time.Now()
	var request loginRequest
	if err := decode(c, &request); err != nil {
		return err
	}
	var wrong []fieldError
	if problem := checkText(request.Email, 1, 1000); problem != "" {
		wrong = append(wrong, fieldError{"email", problem})
	}
	if problem := checkText(request.Password, 1, 1000); problem != "" {
		wrong = append(wrong, fieldError{"password", problem})
	}
	if len(wrong) > 0 {
		return errInvalid(wrong)
	}
	ctx := c.Request.Context()
	s, err := a.authenticate(ctx, normaliseEmail(request.Email), request.Password)
	if errors.Is(err, errCredentials) {
		waitUntil(ctx, arrived.Add(refusalFloor))
	}
	if err != nil {
		return err
	}
	return a.writeSession(c, http.StatusOK, s)
}

// authenticate goes from the email's index to its tenant, and there compares the password. It compares
// exactly once, whatever it finds. Errors: errCredentials, also where the tenant is not active.
func (a *api) authenticate(ctx context.Context, email, password string) (session, error) {
	tenant, admin, err := a.findAdmin(ctx, email)
	hash := a.decoyHash
	switch {
	case err == nil:
		hash = []byte(admin.PasswordHash)
	case !errors.Is(err, registry.ErrNotFound) && !errors.Is(err, tenantdb.ErrUnknown) &&
		!errors.Is(err, tenantdb.ErrNoAdmin) && !errors.Is(err, tenantdb.ErrInactive):
		return session{}, err
	}
	if len(password) > maxPassword { // bcrypt would look at its beginning alone
		err, hash = errCredentials, a.decoyHash
	}
	if bcrypt.CompareHashAndPassword(hash, []byte(password[:min(len(password), maxPassword)])) != nil || err != nil {
		return session{}, errCredentials
	}
	if err := tenant.TouchLogin(ctx, admin.ID); err != nil {
		return session{}, err
	}
	return session{admin: admin, tenant: tenant.Tenant}, nil
}

func (a *api) findAdmin(ctx context.Context, email string) (*tenantdb.Tenant, tenantdb.Admin, error) {
	emailHash, err := a.Keys.EmailIndex(email)
	if err != nil {
		return nil, tenantdb.Admin{}, err
	}
	tenantID, adminID, err := a.Registry.ByEmail(ctx, emailHash)
	if err != nil {
		return nil, tenantdb.Admin{}, err
	}
	tenant, err := a.Router.Acquire(ctx, tenantID)
	if err != nil {
		return nil, tenantdb.Admin{}, err
	}
	admin, err := tenant.Admin(ctx, adminID)
	return tenant, admin, err
}

func waitUntil(ctx context.Context, when time.Time) {
	select {
	case <-time.After(time.Until(when)):
	case <-ctx.Done():
	}
}
