package httpapi

import (
	"context"
	"net/http"
	"time"

	"github.com/gin-gonic/gin"
	"go.temporal.io/sdk/client"
)

const readyLimit = 2 * time.Second

// health says that the process answers.
func (a *api) health(c *gin.Context) error {
	c.JSON(http.StatusOK, gin.H{"status": "ok"})
	return nil
}

// ready says whether what a signup and a login need answers too: the registry and Temporal.
func (a *api) ready(c *gin.Context) error {
	ctx, cancel := context.WithTimeout(c.Request.Context(), readyLimit)
	defer cancel()
	if err := a.Registry.Ping(ctx); err != nil {
		return notReady("The registry does not answer.", err)
	}
	if _, err := a.Temporal.CheckHealth(ctx, &client.CheckHealthRequest{}); err != nil {
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
