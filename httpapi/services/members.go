package services

import (
	"net/http"
	"strings"
	"time"

	"github.com/gin-gonic/gin"

	"narthex/httpapi"
	"narthex/internal/email"
	"narthex/internal/phone"
	"narthex/internal/tenantdb"
	"narthex/internal/text"
	"narthex/internal/tokens"
)

var members = collection[memberRow, member]{
	path:   "/api/members",
	sql:    statements{list: selectMembers, one: selectMember, insert: insertMember, update: updateMember, remove: deleteMember},
	decode: decodeMember,
	open:   memberRow.open,
}

var memberRoutes = append(members.routes(), httpapi.Route{Method: http.MethodPost, Path: "/api/members/lookup", Handle: lookUpMembers})

// member is somebody the church sends messages to.
type member struct {
	ID        string    `json:"id"`
	FirstName string    `json:"firstName"`
	LastName  string    `json:"lastName"`
	Phone     string    `json:"phone"` // E.164
	Email     *string   `json:"email"`
	OptInSMS  bool      `json:"optInSms"`
	CreatedAt time.Time `json:"createdAt"`
	UpdatedAt time.Time `json:"updatedAt"`
}

type memberRow struct {
	ID             string
	FirstName      string
	LastName       string
	Phone          []byte
	EncryptedEmail []byte
	OptInSMS       bool `db:"opt_in_sms"`
	CreatedAt      time.Time
	UpdatedAt      time.Time
}

type memberRequest struct {
	FirstName string  `json:"firstName"`
	LastName  string  `json:"lastName"`
	Phone     string  `json:"phone"`
	Email     *string `json:"email"`
	OptInSMS  *bool   `json:"optInSms"` // true if missing
}

const (
	memberColumns = ` id, first_name, last_name, phone, encrypted_email, opt_in_sms, created_at, updated_at `
	selectMembers = `SELECT` + memberColumns + `FROM members WHERE id > $1 ORDER BY id LIMIT $2`
	selectMember  = `SELECT` + memberColumns + `FROM members WHERE id = $1`
	findMembers   = `
		SELECT` + memberColumns + `FROM members
		WHERE (phone_hash = ANY($3) OR email_hash = ANY($4)) AND id > $1 ORDER BY id LIMIT $2`
	insertMember = `
		INSERT INTO members (id, first_name, last_name, phone, phone_hash, encrypted_email, email_hash, opt_in_sms)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8) RETURNING` + memberColumns
	updateMember = `
		UPDATE members SET first_name = $3, last_name = $4, phone = $5, phone_hash = $6, encrypted_email = $7, email_hash = $8, opt_in_sms = $9,
			updated_at = greatest(clock_timestamp(), updated_at + interval '1 microsecond')
		WHERE id = $1 AND ($2::timestamptz IS NULL OR updated_at = $2) RETURNING` + memberColumns
	deleteMember = `DELETE FROM members WHERE id = $1 AND ($2::timestamptz IS NULL OR updated_at = $2)`
)

func (m member) version() (string, time.Time) { return m.ID, m.UpdatedAt }

// open returns the row as the church sees it.
func (r memberRow) open(tenant *tenantdb.Tenant) (member, error) {
	phone, err := tenant.Open("members", "phone", r.Phone)
	if err != nil {
		return member{}, err
	}
	m := member{
		ID: r.ID, FirstName: r.FirstName, LastName: r.LastName, Phone: phone, OptInSMS: r.OptInSMS,
		CreatedAt: r.CreatedAt, UpdatedAt: r.UpdatedAt,
	}
	if r.EncryptedEmail != nil {
		email, err := tenant.Open("members", "encrypted_email", r.EncryptedEmail)
		if err != nil {
			return member{}, err
		}
		m.Email = &email
	}
	return m, nil
}

// sealed returns the arguments of insertMember and updateMember, from the first name on.
func (r memberRequest) sealed(tenant *tenantdb.Tenant) ([]any, error) {
	phone, phoneHash, err := sealAndIndex(tenant, "phone", tenantdb.MemberPhone, r.Phone)
	if err != nil {
		return nil, err
	}
	values := []any{r.FirstName, r.LastName, phone, phoneHash, nil, nil, *r.OptInSMS}
	if r.Email != nil {
		email, emailHash, err := sealAndIndex(tenant, "encrypted_email", tenantdb.MemberEmail, *r.Email)
		if err != nil {
			return nil, err
		}
		values[4], values[5] = email, emailHash
	}
	return values, nil
}

func sealAndIndex(tenant *tenantdb.Tenant, column, kind, value string) (sealed []byte, index string, err error) {
	sealed, err = tenant.Seal("members", column, value)
	if err != nil {
		return nil, "", err
	}
	index, err = tenant.Index(kind, value)
	return sealed, index, err
}

// normalise brings the request into its stored form, and returns what is wrong with it.
func (r *memberRequest) normalise() (wrong fields) {
	r.FirstName, r.LastName, r.Phone = strings.TrimSpace(r.FirstName), strings.TrimSpace(r.LastName), phone.Normalise(r.Phone)
	wrong.Check("firstName", text.CheckName(r.FirstName, 1, 200))
	wrong.Check("lastName", text.CheckName(r.LastName, 1, 200))
	wrong.Check("phone", phone.Check(r.Phone))
	if r.Email != nil {
		*r.Email = email.Normalise(*r.Email)
		if *r.Email == "" {
			r.Email = nil
		} else {
			wrong.Check("email", email.Check(*r.Email))
		}
	}
	if r.OptInSMS == nil {
		r.OptInSMS = new(bool)
		*r.OptInSMS = true
	}
	return wrong
}

func decodeMember(c *gin.Context, tenant *tenantdb.Tenant) (values []any, err error) {
	var request memberRequest
	if err := httpapi.Decode(c, &request); err != nil {
		return nil, err
	}
	if err := request.normalise().Err(); err != nil {
		return nil, err
	}
	return request.sealed(tenant)
}

type lookupRequest struct {
	Phone *string `json:"phone"`
	Email *string `json:"email"`
}

// lookUpMembers finds members by phone or email. It is a POST because URLs end up in logs.
func lookUpMembers(c *gin.Context, tenant *tenantdb.Tenant, _ tokens.Subject) error {
	page, err := httpapi.PageOf(c)
	if err != nil {
		return err
	}
	var request lookupRequest
	if err := httpapi.Decode(c, &request); err != nil {
		return err
	}
	var wrong fields
	var phones, emails []string
	switch {
	case (request.Phone == nil) == (request.Email == nil):
		wrong.Check("phone", "give a phone or an email, one of them")
	case request.Phone != nil:
		number := phone.Normalise(*request.Phone)
		wrong.Check("phone", phone.Check(number))
		phones, err = tenant.Indexes(tenantdb.MemberPhone, number)
	default:
		address := email.Normalise(*request.Email)
		wrong.Check("email", email.Check(address))
		emails, err = tenant.Indexes(tenantdb.MemberEmail, address)
	}
	if err != nil {
		return err
	}
	if err := wrong.Err(); err != nil {
		return err
	}
	return members.writePage(c, tenant, page, findMembers, phones, emails)
}
