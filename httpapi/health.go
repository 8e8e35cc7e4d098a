package httpapi

import (
	"errors"
	"net/http"

	"github.com/gin-gonic/gin"

	"narthex/internal/registry"
	"narthex/internal/runs"
)

// health says that the process answers.
func (a *api) health(c *gin.Context) error {
	c.JSON(http.StatusOK, gin.H{"status": "ok"})
	return nil
}

// ready says whether what a signup and a login need is there too: the registry with its schema, and
// Temporal with its namespace and search attributes.
func (a *api) ready(c *gin.Context) error {
	ctx := c.Request.Context()
	if err := a.Registry.Ready(ctx); errors.Is(err, registry.ErrNotMigrated) {
		return notReady("The registry's schema is not the newest.", err)
	} else if err != nil {
		return notReady("The registry does not answer.", err)
	}
	if err := runs.Ready(ctx, a.Temporal); errors.Is(err, runs.ErrNotPrepared) {
		return notReady("Temporal's namespace or its search attributes are missing.", err)
	} else if err != nil {
		return notReady("Temporal does not answer.", err)
	}
	c.JSON(http.StatusOK, gin.H{"status": "ready"})
	return nil
}

func notReady(detail string, cause error) *problem {
	p := errNotReady.with(cause)
	p.Detail = detail
	return p
}
