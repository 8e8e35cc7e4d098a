package httpapi

import (
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
	if same, err := a.hasher.Matches(ctx, admin.PasswordHash, request.CurrentPassword); err != nil {
		return err
	} else if !same {
		refused := audit.Event{TenantID: tenant.ID, AdminID: who.AdminID}
		if err := a.Sessions.RecordRefusal(ctx, refused); err != nil {
			return err // an outage is never told as a wrong password
		}
		return errPassword
	}
	hash, err := a.hasher.Hash(ctx, request.NewPassword)
	if err != nil {
		return err
	}
	err = a.Registry.ChangePassword(ctx, tenant.ID, who.AdminID, string(hash), who.SessionID, func() error {
		return tenant.SetPasswordHash(ctx, who.AdminID, admin.PasswordHash, string(hash))
	})
	if errors.Is(err, tenantdb.ErrNoAdmin) {
		return errPassword // another change was quicker
	}
	if err != nil {
		return err
	}
	c.Status(http.StatusNoContent)
	return nil
}
