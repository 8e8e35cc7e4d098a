package httpapi

import (
	"net/http"

	"github.com/gin-gonic/gin"

	"narthex/internal/tenantdb"
	"narthex/internal/tokens"
)

type meResponse struct {
	TenantID string        `json:"tenantId"`
	Admin    adminResponse `json:"admin"`
}

// me returns the admin's own record from their church's database.
func (a *api) me(c *gin.Context, tenant *tenantdb.Tenant, who tokens.Subject) error {
	admin, err := tenant.Admin(c.Request.Context(), who.AdminID)
	if err != nil {
		return err
	}
	c.JSON(http.StatusOK, meResponse{TenantID: tenant.ID, Admin: adminResponseFor(admin)})
	return nil
}
