package httpapi

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"time"

	"github.com/gin-gonic/gin"

	"narthex/internal/email"
	"narthex/internal/invitation"
	"narthex/internal/login"
	"narthex/internal/password"
	"narthex/internal/registry"
	"narthex/internal/tenantdb"
	"narthex/internal/text"
	"narthex/internal/tokens"
)

type invitationRequest struct {
	Email     string  `json:"email"`
	FirstName string  `json:"firstName"`
	LastName  string  `json:"lastName"`
	Role      *string `json:"role"` // CO_ADMIN if missing
}

type invitationResponse struct {
	AdminID         string    `json:"adminId"`
	InvitationToken string    `json:"invitationToken"`
	ExpiresAt       time.Time `json:"expiresAt"`
}

type acceptRequest struct {
	InvitationToken string `json:"invitationToken"`
	Password        string `json:"password"`
}

var (
	errInviting = newProblem(http.StatusConflict, "invitation-in-progress", "An invitation for this email is in progress",
		"Wait until it has finished.")
	errInviteeTaken = newProblem(http.StatusConflict, "email-taken", errEmailTaken.Title, "Invite them with another email.")
	errHalfInvited  = newProblem(http.StatusInternalServerError, "invitation-failed", "The invitation was terminated",
		"Some of what it created may still exist. Ask support to remove it, then invite again.")
	errNotInvited = newProblem(http.StatusInternalServerError, "invitation-rolled-back", "The invitation failed and was undone",
		"Nothing was kept. Send the request again.")
	errInvitation = newProblem(http.StatusNotFound, "invitation-not-found", "Invitation not found",
		"It may have expired, or it was accepted or withdrawn. Ask for a new one.")
	acceptLimits = limits{"accept", loginLimits.address, loginLimits.account} // here an account is a link, valid or not
)

func (r *invitationRequest) normalise() (wrong Fields) {
	r.FirstName, r.LastName, r.Email = strings.TrimSpace(r.FirstName), strings.TrimSpace(r.LastName), email.Normalise(r.Email)
	wrong.Check("firstName", text.CheckName(r.FirstName, 1, 200))
	wrong.Check("lastName", text.CheckName(r.LastName, 1, 200))
	wrong.Check("email", email.Check(r.Email))
	if r.Role == nil {
		role := registry.RoleCoAdmin
		r.Role = &role
	} else if *r.Role != registry.RoleCoAdmin && *r.Role != registry.RolePrimary {
		wrong.Check("role", `must be one of "CO_ADMIN", "PRIMARY"`)
	}
	return wrong
}

// invite creates an admin who has no password yet, and returns the token that lets them choose one.
func (a *api) invite(c *gin.Context, tenant *tenantdb.Tenant, who tokens.Subject) error {
	var request invitationRequest
	if err := Decode(c, &request); err != nil {
		return err
	}
	if err := request.normalise().Err(); err != nil {
		return err
	}
	permit := func(c *gin.Context) error {
		if err := requirePrimary(c, tenant, who); err != nil {
			return err
		}
		return a.invitations.Check(c.Request.Context(), request.Email)
	}
	if err := within(a.AnswerLimit, permit)(c); err != nil {
		return err
	}
	offer, err := a.invitations.Start(c.Request.Context(), tenant.ID, invitation.Invitee{
		Email: request.Email, FirstName: request.FirstName, LastName: request.LastName, Role: *request.Role,
	})
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(c.Request.Context(), a.SignupWait)
	defer cancel()
	offered, err := a.invitations.Await(ctx, offer)
	if err != nil {
		return err
	}
	status := http.StatusCreated
	if !offered {
		status = http.StatusAccepted // the token becomes valid soon
	}
	c.JSON(status, invitationResponse{AdminID: offer.Input.AdminID, InvitationToken: offer.Token, ExpiresAt: offer.Input.ExpiresAt})
	return nil
}

// acceptInvitation lets the bearer of an invitation's token choose a password, and logs them in. A repeated request with
// the same password logs them in again, because the first answer may have been lost. A wrong token and a wrong password
// get the same answer after the same time.
func (a *api) acceptInvitation(c *gin.Context) error {
	arrived := time.Now()
	var request acceptRequest
	if err := Decode(c, &request); err != nil {
		return err
	}
	var wrong Fields
	wrong.Check("invitationToken", text.Check(request.InvitationToken, 1, 1000))
	wrong.Check("password", password.Check(request.Password))
	if err := wrong.Err(); err != nil {
		return err
	}
	if err := a.throttle(c, acceptLimits, request.InvitationToken); err != nil {
		return err
	}
	ctx := c.Request.Context()
	proven, err := a.logins.ByInvitation(ctx, request.InvitationToken, request.Password)
	c.Set(tenantKey, proven.Church.ID)
	if err == nil {
		err = a.writeSession(c, http.StatusOK, proven)
	}
	if errors.Is(err, login.ErrRefused) {
		waitUntil(ctx, arrived.Add(refusalFloor))
		return errInvitation
	}
	return err
}
