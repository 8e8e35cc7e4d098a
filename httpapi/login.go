package httpapi

import (
	"context"
	"errors"
	"net/http"
	"time"

	"github.com/gin-gonic/gin"

	"narthex/internal/audit"
	"narthex/internal/email"
	"narthex/internal/login"
	"narthex/internal/text"
)

// refusalFloor is how long a refused login takes at least. It is well above the time that the look-ups and
// the comparison take, so timing does not reveal whether the email is unknown or the password is wrong.
const refusalFloor = 400 * time.Millisecond

type loginRequest struct {
	Email    string `json:"email"`
	Password string `json:"password"`
}

// login authenticates an admin by email and password and issues tokens.
func (a *api) login(c *gin.Context) error {
	arrived := time.Now()
	var request loginRequest
	if err := Decode(c, &request); err != nil {
		return err
	}
	var wrong Fields
	wrong.Check("email", text.Check(request.Email, 1, 1000))
	wrong.Check("password", text.Check(request.Password, 1, 1000))
	if err := wrong.Err(); err != nil {
		return err
	}
	ctx, address := c.Request.Context(), email.Normalise(request.Email)
	if err := a.throttle(c, loginLimits, address); err != nil {
		return err
	}
	proven, err := a.logins.ByPassword(ctx, address, request.Password)
	c.Set(tenantKey, proven.Church.ID)
	if errors.Is(err, login.ErrRefused) {
		if auditErr := a.auditRefusal(ctx, address); auditErr != nil {
			err = auditErr // an outage is never reported as a wrong password
		}
		waitUntil(ctx, arrived.Add(refusalFloor))
	}
	if err != nil {
		return err
	}
	return a.writeSession(c, http.StatusOK, proven)
}

// auditRefusal records a refused login, whether the email is known or not.
func (a *api) auditRefusal(ctx context.Context, email string) error {
	emailHash, err := a.Keys.EmailIndex(email)
	if err != nil {
		return err
	}
	return a.Sessions.RecordRefusal(ctx, audit.Event{EmailHash: emailHash})
}

func waitUntil(ctx context.Context, when time.Time) {
	select {
	case <-time.After(time.Until(when)):
	case <-ctx.Done():
	}
}
