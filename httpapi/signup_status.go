package httpapi

import (
	"net/http"

	"github.com/gin-gonic/gin"

	"narthex/internal/runs"
)

type signupResponse struct {
	ID string `json:"id"`
	runs.Status
}

// signupStatus returns a signup's status, step by step.
func (a *api) signupStatus(c *gin.Context) error {
	id := c.Param("signupId")
	status, err := a.signups.Status(c.Request.Context(), id)
	if err != nil {
		return err
	}
	if status.State == runs.Running {
		c.Header("Retry-After", askAgain)
	}
	c.JSON(http.StatusOK, signupResponse{ID: id, Status: status})
	return nil
}
