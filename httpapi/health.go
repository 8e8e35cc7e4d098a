package httpapi

import (
	"context"
	"errors"
	"net/http"
	"time"

	"github.com/gin-gonic/gin"

	"narthex/internal/registry"
	"narthex/internal/runs"
)

// health says that the process answers.
func (a *api) health(c *gin.Context) error {
	c.JSON(http.StatusOK, gin.H{"status": "ok"})
	return nil
}

// ready says whether the process can answer for churches: whether the registry is there, with its schema. What it says of
// Temporal decides nothing: without it nobody can sign up, but everybody else goes on, and a load balancer that took all APIs
// out would end that too.
func (a *api) ready(c *gin.Context) error {
	ctx := c.Request.Context()
	if err := a.Registry.Ready(ctx); errors.Is(err, registry.ErrNotMigrated) {
		return notReady("The registry's schema is not the newest.", err)
	} else if err != nil {
		return notReady("The registry does not answer.", err)
	}
	c.JSON(http.StatusOK, gin.H{"status": "ready", "temporal": a.temporalState(ctx)})
	return nil
}

// temporalLimit leaves a load balancer, which often waits for a second, time for the answer.
const temporalLimit = 500 * time.Millisecond

// temporalState says whether a signup can be started.
func (a *api) temporalState(ctx context.Context) string {
	ctx, cancel := context.WithTimeout(ctx, temporalLimit)
	defer cancel()
	err := runs.Ready(ctx, a.Temporal)
	switch {
	case errors.Is(err, runs.ErrNotPrepared):
		return "unprepared"
	case err != nil:
		return "unreachable"
	}
	return "ready"
}

func notReady(detail string, cause error) *problem {
	p := errNotReady.with(cause)
	p.Detail = detail
	return p
}
