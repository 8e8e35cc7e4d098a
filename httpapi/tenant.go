package httpapi

import (
	"context"

	"github.com/gin-gonic/gin"

	"narthex/internal/ids"
	"narthex/internal/tenantdb"
	"narthex/internal/tokens"
)

// TenantHandler answers a request of a church's admin. The tenant comes from the token: a handler cannot
// reach a church's data in any other way.
type TenantHandler func(c *gin.Context, tenant *tenantdb.Tenant, who tokens.Subject) error

// inTenant verifies the request's token and passes the token's tenant to the handler.
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
		ctx, cancel := context.WithTimeout(c.Request.Context(), a.AnswerLimit) // the route's own limit may be longer
		defer cancel()
		tenant, err := a.Router.Acquire(ctx, who.TenantID)
		if err != nil {
			return err
		}
		defer tenant.Release()
		return handler(c, tenant, who)
	}
}

// tenantKey is the context key of the request's tenant id, which the count of failures uses.
const tenantKey = "tenant"
