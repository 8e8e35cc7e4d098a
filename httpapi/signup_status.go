package httpapi

import (
	"encoding/base64"
	"net/http"
	"strings"

	"github.com/gin-gonic/gin"

	"narthex/internal/secrets"
	"narthex/internal/signups"
	"narthex/workflows"
)

// A signup's public id is its workflow and run ids, sealed: any API process can read it, nobody else
// can, and nobody can make one up.
var signupIDPlace = secrets.Place{Table: "signup", Column: "public_id"}

func (a *api) signupID(workflowID, runID string) (string, error) {
	sealed, err := a.Keys.Seal([]byte(workflowID+"\x00"+runID), signupIDPlace)
	return base64.RawURLEncoding.EncodeToString(sealed), err
}

func (a *api) openSignupID(id string) (workflowID, runID string, ok bool) {
	sealed, err := base64.RawURLEncoding.Strict().DecodeString(id)
	if err != nil {
		return "", "", false
	}
	plain, err := a.Keys.Open(sealed, signupIDPlace)
	if err != nil {
		return "", "", false
	}
	return strings.Cut(string(plain), "\x00")
}

type signupResponse struct {
	ID string `json:"id"`
	signups.Status
}

// signupStatus tells how a signup stands, step by step.
func (a *api) signupStatus(c *gin.Context) error {
	id := c.Param("signupId")
	workflowID, runID, ok := a.openSignupID(id)
	if !ok {
		return errNoSignup
	}
	status, err := signups.Read(c.Request.Context(), a.Temporal, workflowID, runID, workflows.Steps)
	if err != nil {
		return err
	}
	if status.State == signups.Running {
		c.Header("Retry-After", askAgain)
	}
	c.JSON(http.StatusOK, signupResponse{ID: id, Status: status})
	return nil
}
