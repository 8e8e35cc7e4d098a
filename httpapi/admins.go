package httpapi

import (
	"errors"
	"net/http"

	"github.com/gin-gonic/gin"

	"narthex/internal/registry"
	"narthex/internal/tenantdb"
	"narthex/internal/tokens"
)

type listedAdmin struct {
	adminResponse
	Invited bool `json:"invited"` // and has not accepted yet
}

var errLastPrimary = newProblem(http.StatusConflict, "last-primary", "The last PRIMARY admin cannot be removed",
	"Invite another PRIMARY admin first.")

// listAdmins lists the church's admins.
func (a *api) listAdmins(c *gin.Context, tenant *tenantdb.Tenant, _ tokens.Subject) error {
	page, err := PageOf(c)
	if err != nil {
		return err
	}
	admins, err := tenant.Admins(c.Request.Context(), page.After, page.Fetch())
	if err != nil {
		return err
	}
	listed := make([]listedAdmin, len(admins))
	for i, admin := range admins {
		listed[i] = listedAdmin{adminResponseFor(admin), admin.PasswordHash == ""}
	}
	WritePage(c, page, listed, func(l listedAdmin) string { return l.ID })
	return nil
}

// removeAdmin removes an admin, or withdraws an invitation.
func (a *api) removeAdmin(c *gin.Context, tenant *tenantdb.Tenant, who tokens.Subject) error {
	if err := requirePrimary(c, tenant, who); err != nil {
		return err
	}
	err := tenant.RemoveAdmin(c.Request.Context(), c.Param("id"))
	switch {
	case errors.Is(err, registry.ErrLastPrimary):
		return errLastPrimary
	case errors.Is(err, tenantdb.ErrNoAdmin):
		return errNoRoute
	case err != nil:
		return err
	}
	c.Status(http.StatusNoContent)
	return nil
}

// requirePrimary refuses an admin who is not, or is no longer, PRIMARY.
func requirePrimary(c *gin.Context, tenant *tenantdb.Tenant, who tokens.Subject) error {
	admin, err := tenant.Admin(c.Request.Context(), who.AdminID)
	if err != nil {
		return err
	}
	if admin.Role != registry.RolePrimary {
		return errForbidden
	}
	return nil
}

var errForbidden = newProblem(http.StatusForbidden, "forbidden", "You are not allowed to do this", "Only a PRIMARY admin is.")
