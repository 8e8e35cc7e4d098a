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

// health reports that the process answers.
func (a *api) health(c *gin.Context) error {
	c.JSON(http.StatusOK, gin.H{"status": "ok"})
	return nil
}

// ready reports whether the process can serve churches, that is, whether the registry answers and has its schema. Temporal's
// state is reported, but does not count: without Temporal nobody can sign up, but everything else works, and a load balancer
// that took all APIs out would stop that too. Whether churches are behind doesn't count either. How many there are is left out,
// because anybody may ask.
func (a *api) ready(c *gin.Context) error {
	ctx := c.Request.Context()
	if err := a.Registry.Ready(ctx); errors.Is(err, registry.ErrNotMigrated) {
		return notReady("The registry's schema is not the newest.", err)
	} else if err != nil {
		return notReady("The registry does not answer.", err)
	}
	c.JSON(http.StatusOK, gin.H{"status": "ready", "temporal": a.temporalState(ctx), "fleet": a.Pace()})
	return nil
}

// temporalLimit is short, because a load balancer often waits only a second for the answer.
const temporalLimit = 500 * time.Millisecond

// temporalState reports whether signups can be started.
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
