package httpapi

import (
	"context"
	"errors"
	"net/http"

	"github.com/gin-gonic/gin"

	"narthex/internal/audit"
	"narthex/internal/password"
	"narthex/internal/tenantdb"
	"narthex/internal/text"
	"narthex/internal/tokens"
)

type passwordRequest struct {
	CurrentPassword string `json:"currentPassword"`
	NewPassword     string `json:"newPassword"`
}

// changePassword replaces the admin's password, and ends all their sessions but this one.
func (a *api) changePassword(c *gin.Context, tenant *tenantdb.Tenant, who tokens.Subject) error {
	var request passwordRequest
	if err := Decode(c, &request); err != nil {
		return err
	}
	var wrong Fields
	wrong.Check("currentPassword", text.Check(request.CurrentPassword, 1, 1000))
	wrong.Check("newPassword", password.Check(request.NewPassword))
	if err := wrong.Err(); err != nil {
		return err
	}
	ctx := c.Request.Context()
	admin, err := tenant.Admin(ctx, who.AdminID)
	if err != nil {
		return err
	}
	if err := a.throttle(c, loginLimits, admin.Email); err != nil {
		return err
	}
	err = a.provePassword(ctx, tenant.ID, admin, request.CurrentPassword)
	if errors.Is(err, errCredentials) {
		return errPassword
	}
	if err != nil {
		return err
	}
	hash, err := a.Passwords.Hash(ctx, request.NewPassword)
	if err != nil {
		return err
	}
	err = tenant.ChangePassword(ctx, admin.ID, admin.PasswordHash, string(hash), who.SessionID)
	if errors.Is(err, tenantdb.ErrNoAdmin) {
		return errPassword // another change came first
	}
	if err != nil {
		return err
	}
	c.Status(http.StatusNoContent)
	return nil
}

// provePassword checks the password of an admin who is identified by a token, and records a refusal.
// Errors: errCredentials; password.ErrBusy.
func (a *api) provePassword(ctx context.Context, tenantID string, admin tenantdb.Admin, password string) error {
	same, err := a.Passwords.Matches(ctx, admin.PasswordHash, password)
	if err != nil || same {
		return err
	}
	if err := a.Sessions.RecordRefusal(ctx, audit.Event{TenantID: tenantID, AdminID: admin.ID}); err != nil {
		return err // an outage is never reported as a wrong password
	}
	return errCredentials
}
