package httpapi

import (
	"errors"
	"net/http"

	"github.com/gin-gonic/gin"

	"narthex/internal/login"
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
	err = a.logins.Prove(ctx, tenant.ID, admin, request.CurrentPassword)
	if errors.Is(err, login.ErrRefused) {
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
