package httpapi

import (
	"context"

	"github.com/gin-gonic/gin"

	"narthex/internal/ids"
	"narthex/internal/tenantdb"
	"narthex/internal/tokens"
)

// TenantHandler answers a request of one church's admin. Its tenant is the token's: a handler has no
// other way to a church's data.
type TenantHandler func(c *gin.Context, tenant *tenantdb.Tenant, who tokens.Subject) error

// inTenant verifies the request's token and hands the handler the token's tenant.
func (a *api) inTenant(handler TenantHandler) func(*gin.Context) error {
	return func(c *gin.Context) error {
		who, err := a.Tokens.Verify(bearerToken(c))
		if err != nil {
			return errToken
		}
		c.Set(tenantKey, who.TenantID)
		if id, there := c.Params.Get("id"); there && !ids.Valid(id) {
			return errNoRoute
		}
		ctx, cancel := context.WithTimeout(c.Request.Context(), a.AnswerLimit) // the route itself may have longer
		defer cancel()
		tenant, err := a.Router.Acquire(ctx, who.TenantID)
		if err != nil {
			return err
		}
		defer tenant.Release()
		return handler(c, tenant, who)
	}
}

// tenantKey is under which a request knows its tenant's id, for those who count what fails.
const tenantKey = "tenant"
