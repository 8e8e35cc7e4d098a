package httpapi

import (
	"errors"
	"net/http"

	"github.com/gin-gonic/gin"

	"narthex/internal/sessions"
	"narthex/internal/tenantdb"
	"narthex/internal/text"
	"narthex/internal/tokens"
)

type refreshRequest struct {
	RefreshToken string `json:"refreshToken"`
}

type refreshResponse struct {
	AccessToken  string `json:"accessToken"`
	RefreshToken string `json:"refreshToken"`
}

func (a *api) decodeRefreshToken(c *gin.Context) (string, error) {
	var request refreshRequest
	if err := Decode(c, &request); err != nil {
		return "", err
	}
	var wrong Fields
	wrong.Check("refreshToken", text.Check(request.RefreshToken, 1, 1000))
	return request.RefreshToken, wrong.Err()
}

// refresh exchanges a refresh token for its successor and a new access token.
func (a *api) refresh(c *gin.Context) error {
	token, err := a.decodeRefreshToken(c)
	if err != nil {
		return err
	}
	ctx := c.Request.Context()
	adminID, err := a.Sessions.AdminOf(ctx, token)
	if err != nil {
		return err
	}
	if err := a.throttle(c, refreshLimits, adminID); err != nil {
		return err
	}
	session, next, err := a.Sessions.Refresh(ctx, token)
	if errors.Is(err, sessions.ErrEnded) {
		return errSession
	}
	if err != nil {
		return err
	}
	accessToken, err := a.mint(session)
	if err != nil {
		return err
	}
	c.JSON(http.StatusOK, refreshResponse{AccessToken: accessToken, RefreshToken: next})
	return nil
}

// logout ends a refresh token's session. An unknown token is no error.
func (a *api) logout(c *gin.Context) error {
	token, err := a.decodeRefreshToken(c)
	if err != nil {
		return err
	}
	if err := a.Sessions.End(c.Request.Context(), token); err != nil {
		return err
	}
	c.Status(http.StatusNoContent)
	return nil
}

// logoutAll ends all sessions of the admin.
func (a *api) logoutAll(c *gin.Context, tenant *tenantdb.Tenant, who tokens.Subject) error {
	if err := a.Sessions.EndAll(c.Request.Context(), tenant.ID, who.AdminID); err != nil {
		return err
	}
	c.Status(http.StatusNoContent)
	return nil
}

// jwks publishes the keys with which others can verify access tokens (RFC 7517).
func (a *api) jwks(c *gin.Context) error {
	c.Header("Cache-Control", "public, max-age=300")
	c.JSON(http.StatusOK, gin.H{"keys": a.Tokens.JWKS()})
	return nil
}
