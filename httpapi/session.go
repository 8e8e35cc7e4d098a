package httpapi

import (
	"context"
	"errors"
	"time"

	"github.com/gin-gonic/gin"

	"narthex/internal/audit"
	"narthex/internal/sessions"
	"narthex/internal/tenantdb"
	"narthex/internal/tokens"
)

// session is an authenticated admin and their church.
type session struct {
	admin  tenantdb.Admin
	church tenantdb.Church
	event  audit.Kind // that the audit log records with it; empty if one is recorded already
}

type sessionResponse struct {
	TenantID     string         `json:"tenantId"`
	AdminID      string         `json:"adminId"`
	AccessToken  string         `json:"accessToken"`
	RefreshToken string         `json:"refreshToken"`
	Admin        adminResponse  `json:"admin"`
	Church       churchResponse `json:"church"`
}

type adminResponse struct {
	ID               string `json:"id"`
	Email            string `json:"email"`
	FirstName        string `json:"firstName"`
	LastName         string `json:"lastName"`
	Role             string `json:"role"`
	WelcomeCompleted bool   `json:"welcomeCompleted"`
}

type churchResponse struct {
	ID                 string    `json:"id"`
	Name               string    `json:"name"`
	Email              string    `json:"email"`
	SubscriptionStatus string    `json:"subscriptionStatus"`
	TrialEndsAt        time.Time `json:"trialEndsAt"`
}

func adminResponseFor(admin tenantdb.Admin) adminResponse {
	return adminResponse{ID: admin.ID, Email: admin.Email, FirstName: admin.FirstName, LastName: admin.LastName,
		Role: admin.Role, WelcomeCompleted: admin.WelcomeCompleted}
}

// writeSession opens a session and sends its tokens together with the admin and the church.
func (a *api) writeSession(c *gin.Context, status int, s session) error {
	opened, refreshToken, err := a.openSession(c.Request.Context(), s)
	if err != nil {
		return err
	}
	accessToken, err := a.mint(opened)
	if err != nil {
		return err
	}
	c.JSON(status, sessionResponse{
		TenantID: s.church.ID, AdminID: s.admin.ID, AccessToken: accessToken, RefreshToken: refreshToken,
		Admin: adminResponseFor(s.admin),
		Church: churchResponse{ID: s.church.ID, Name: s.church.Name, Email: s.church.Email,
			SubscriptionStatus: s.church.SubscriptionStatus, TrialEndsAt: s.church.TrialEndsAt.UTC()},
	})
	return nil
}

// openSession opens a session, unless the password has changed since it was compared. If a change has reached only one
// of registry and church, both get the church's hash first. Errors: errCredentials.
func (a *api) openSession(ctx context.Context, s session) (sessions.Session, string, error) {
	proven := sessions.Login{
		TenantID: s.church.ID, AdminID: s.admin.ID, Role: s.admin.Role, PasswordHash: s.admin.PasswordHash, Event: s.event,
	}
	opened, token, err := a.Sessions.Open(ctx, proven)
	if !errors.Is(err, sessions.ErrEnded) {
		return opened, token, err
	}
	tenant, err := a.Router.Acquire(ctx, s.church.ID)
	if err != nil {
		return opened, "", err
	}
	defer tenant.Release()
	err = tenant.AlignPasswordHash(ctx, s.admin.ID, s.admin.PasswordHash)
	if err == nil {
		opened, token, err = a.Sessions.Open(ctx, proven)
	}
	if errors.Is(err, tenantdb.ErrNoAdmin) || errors.Is(err, sessions.ErrEnded) {
		err = errCredentials
	}
	return opened, token, err
}

func (a *api) mint(s sessions.Session) (accessToken string, err error) {
	return a.Tokens.Mint(tokens.Subject{TenantID: s.TenantID, AdminID: s.AdminID, SessionID: s.ID, Role: s.Role})
}
