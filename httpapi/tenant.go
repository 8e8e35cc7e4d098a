package httpapi

import (
	"github.com/gin-gonic/gin"

	"narthex/internal/tenantdb"
	"narthex/internal/tokens"
)

// tenantHandler answers a request of one church's admin. Its tenant is the token's: a handler has no
// other way to a church's data.
type tenantHandler func(c *gin.Context, tenant *tenantdb.Tenant, who tokens.Subject) error

// inTenant verifies the request's token and hands the handler the token's tenant.
func (a *api) inTenant(handler tenantHandler) func(*gin.Context) error {
	return func(c *gin.Context) error {
		who, err := a.Tokens.Verify(bearerToken(c))
		if err != nil {
			return errToken
		}
		tenant, err := a.Router.Acquire(c.Request.Context(), who.TenantID)
		if err != nil {
			return err
		}
		defer tenant.Release()
		return handler(c, tenant, who)
	}
}
