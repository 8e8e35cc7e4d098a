package httpapi

import (
	"net/http"

	"github.com/gin-gonic/gin"

	"narthex/internal/signup"
	"narthex/internal/signups"
)

type signupResponse struct {
	ID string `json:"id"`
	signups.Status
}

// signupStatus tells how a signup stands, step by step.
func (a *api) signupStatus(c *gin.Context) error {
	id := c.Param("signupId")
	run, ok := signups.OpenPublicID(a.Keys, id)
	if !ok {
		return errNoSignup
	}
	status, err := signups.Read(c.Request.Context(), a.Temporal, a.Keys, run, signup.Steps)
	if err != nil {
		return err
	}
	if status.State == signups.Running {
		c.Header("Retry-After", askAgain)
	}
	c.JSON(http.StatusOK, signupResponse{ID: id, Status: status})
	return nil
}
