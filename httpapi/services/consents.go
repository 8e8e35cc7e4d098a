package services

import (
	"errors"
	"net/http"
	"time"

	"github.com/gin-gonic/gin"

	"narthex/httpapi"
	"narthex/internal/ids"
	"narthex/internal/tenantdb"
	"narthex/internal/tokens"
)

var consentRoutes = []httpapi.Route{
	{Method: http.MethodGet, Path: "/api/consents", Handle: listConsents},
	{Method: http.MethodPost, Path: "/api/consents", Handle: recordConsent},
}

// consent is an entry of the consent log. Entries are added and never changed.
type consent struct {
	ID        string    `json:"id"`
	MemberID  *string   `json:"memberId"` // who consents; without one, the admin
	AdminID   *string   `json:"adminId"`  // who recorded it
	Type      string    `json:"type"`
	Status    string    `json:"status"`
	Reason    *string   `json:"reason"`
	Source    *string   `json:"source"`
	CreatedAt time.Time `json:"createdAt"`
}

type consentRequest struct {
	MemberID *string `json:"memberId"`
	Type     string  `json:"type"`
	Status   string  `json:"status"`
	Reason   *string `json:"reason"`
	Source   *string `json:"source"`
}

const (
	consentColumns = ` id, member_id, admin_id, type, status, reason, source, created_at `
	selectConsents = `
		SELECT` + consentColumns + `FROM consent_logs WHERE id > $1 AND ($3 = '' OR member_id = $3) ORDER BY id LIMIT $2`
	insertConsent = `
		INSERT INTO consent_logs (id, member_id, admin_id, type, status, reason, source)
		VALUES ($1, $2, $3, $4, $5, $6, $7) RETURNING` + consentColumns
	memberForShare = `SELECT id FROM members WHERE id = $1 FOR SHARE`
)

func listConsents(c *gin.Context, tenant *tenantdb.Tenant, _ tokens.Subject) error {
	page, err := httpapi.PageOf(c)
	if err != nil {
		return err
	}
	memberID, err := httpapi.QueryID(c, "memberId")
	if err != nil {
		return err
	}
	rows, err := tenantdb.All[consent](c.Request.Context(), tenant, selectConsents, page.After, page.Fetch(), memberID)
	if err != nil {
		return err
	}
	httpapi.WritePage(c, page, rows, func(e consent) string { return e.ID })
	return nil
}

func recordConsent(c *gin.Context, tenant *tenantdb.Tenant, who tokens.Subject) error {
	var request consentRequest
	if err := httpapi.Decode(c, &request); err != nil {
		return err
	}
	var wrong fields
	wrong.optional("memberId", &request.MemberID, 26)
	wrong.oneOf("type", request.Type, "smsMarketing", "emailMarketing", "dataProcessing", "analytics")
	wrong.oneOf("status", request.Status, "granted", "denied", "withdrawn")
	wrong.optional("reason", &request.Reason, 1000)
	if request.Source != nil {
		wrong.oneOf("source", *request.Source, "api", "web_form", "email_link", "signup")
	}
	if err := wrong.Err(); err != nil {
		return err
	}
	ctx := c.Request.Context()
	var row consent
	err := tenant.InTx(ctx, func(tx *tenantdb.Tx) (err error) {
		if request.MemberID != nil {
			_, err := tenantdb.One[struct{ ID string }](ctx, tx, memberForShare, *request.MemberID)
			if errors.Is(err, tenantdb.ErrNotFound) {
				wrong.Check("memberId", "is not a member of this church")
				return wrong.Err()
			}
			if err != nil {
				return err
			}
		}
		row, err = tenantdb.One[consent](ctx, tx, insertConsent,
			ids.New(), request.MemberID, who.AdminID, request.Type, request.Status, request.Reason, request.Source)
		return err
	})
	if err != nil {
		return err
	}
	c.JSON(http.StatusCreated, row)
	return nil
}
