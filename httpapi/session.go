package httpapi

import (
	"time"

	"github.com/gin-gonic/gin"

	"narthex/internal/login"
	"narthex/internal/sessions"
	"narthex/internal/tenantdb"
	"narthex/internal/tokens"
)

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
func (a *api) writeSession(c *gin.Context, status int, l login.Login) error {
	opened, refreshToken, err := a.logins.Open(c.Request.Context(), l)
	if err != nil {
		return err
	}
	accessToken, err := a.mint(opened)
	if err != nil {
		return err
	}
	c.JSON(status, sessionResponse{
		TenantID: l.Church.ID, AdminID: l.Admin.ID, AccessToken: accessToken, RefreshToken: refreshToken,
		Admin: adminResponseFor(l.Admin),
		Church: churchResponse{ID: l.Church.ID, Name: l.Church.Name, Email: l.Church.Email,
			SubscriptionStatus: l.Church.SubscriptionStatus, TrialEndsAt: l.Church.TrialEndsAt.UTC()},
	})
	return nil
}

func (a *api) mint(s sessions.Session) (accessToken string, err error) {
	return a.Tokens.Mint(tokens.Subject{TenantID: s.TenantID, AdminID: s.AdminID, SessionID: s.ID, Role: s.Role})
}
