package services

import (
	"bytes"
	"context"
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/gin-gonic/gin"

	"narthex/httpapi"
	"narthex/internal/ids"
	"narthex/internal/tenantdb"
	"narthex/internal/tokens"
)

var memberImportRoutes = []httpapi.Route{
	{Method: http.MethodPost, Path: "/api/members/import", Handle: importMembers},
}

const (
	maxImportBytes  = 5 << 20
	maxImportRows   = 10_000
	maxRowBytes     = 64 << 10
	maxImportErrors = 100 // listed; all are counted
)

// importColumns are the file's columns, as named in its first row. The last two may be missing.
var importColumns = []string{"firstName", "lastName", "phone", "email", "optInSms"}

const neededColumns = 3

type importResponse struct {
	Imported int `json:"imported"`
}

const (
	lockImports  = `SELECT pg_advisory_xact_lock(hashtext('members import'))`
	knownMembers = `SELECT first_name, last_name, phone_hash FROM members WHERE phone_hash = ANY($1)`
	insertAll    = `
		INSERT INTO members (id, first_name, last_name, phone, phone_hash, encrypted_email, email_hash, opt_in_sms)
		SELECT * FROM unnest($1::text[], $2::text[], $3::text[], $4::bytea[], $5::text[], $6::bytea[], $7::text[], $8::boolean[])`
)

// importMembers adds the members of a CSV file (RFC 4180, in UTF-8). If any row is wrong, it adds
// none.
func importMembers(c *gin.Context, tenant *tenantdb.Tenant, _ tokens.Subject) error {
	body, err := httpapi.Body(c, "text/csv", maxImportBytes)
	if err != nil {
		return err
	}
	requests, wrong, err := parseMembers(body)
	if err != nil {
		return err
	}
	ctx := c.Request.Context()
	err = tenant.InTx(ctx, func(tx *tenantdb.Tx) error {
		if _, err := tenantdb.Exec(ctx, tx, lockImports); err != nil {
			return err
		}
		known, err := alreadyMembers(ctx, tx, tenant, requests)
		if err != nil {
			return err
		}
		if err := wrong.and(known).Err(); err != nil {
			return err
		}
		return insertMembers(ctx, tx, tenant, requests)
	})
	if err != nil {
		return err
	}
	c.JSON(http.StatusCreated, importResponse{Imported: len(requests)})
	return nil
}

// parsedMember is a row of the file.
type parsedMember struct {
	memberRequest
	row int // in the file; row 1 names the columns
}

// importErrors are the first errors of a file, by row, and the number of all.
type importErrors struct {
	first httpapi.Fields
	count int
}

func (e *importErrors) add(wrong httpapi.FieldError) {
	if e.count++; e.count <= maxImportErrors {
		e.first = append(e.first, wrong)
	}
}

// and returns both files' errors as one file's.
func (e importErrors) and(other importErrors) importErrors {
	all := slices.Concat(e.first, other.first)
	slices.SortStableFunc(all, func(a, b httpapi.FieldError) int { return a.Row - b.Row })
	return importErrors{all[:min(len(all), maxImportErrors)], e.count + other.count}
}

// Err returns a problem, or nil if nothing is wrong.
func (e importErrors) Err() error { return e.first.ErrOf(e.count) }

// rowReader reads a file, and fails if a row is longer than maxRowBytes.
type rowReader struct {
	file io.Reader
	left int // bytes
}

var errLongRow = errors.New("the row is too long")

func (r *rowReader) Read(p []byte) (int, error) {
	if r.left <= 0 {
		return 0, errLongRow
	}
	n, err := r.file.Read(p)
	r.left -= n
	return n, err
}

func parseMembers(body []byte) (requests []parsedMember, wrong importErrors, err error) {
	if !utf8.Valid(body) {
		return nil, wrong, httpapi.Malformed("The file is not UTF-8.")
	}
	file := &rowReader{file: bytes.NewReader(bytes.TrimPrefix(body, []byte("\ufeff"))), left: maxRowBytes}
	reader := csv.NewReader(file)
	reader.ReuseRecord = true
	header, err := reader.Read()
	if err != nil {
		return nil, wrong, httpapi.Malformed("The file is empty, or its first row is not CSV.")
	}
	columns, err := columnsOf(header)
	if err != nil {
		return nil, wrong, err
	}
	for row := 2; ; row++ {
		file.left = maxRowBytes
		record, err := reader.Read()
		var parseErr *csv.ParseError
		switch {
		case errors.Is(err, io.EOF):
			return requests, wrong, nil
		case row > maxImportRows+1:
			return nil, wrong, httpapi.Malformed(fmt.Sprintf("The file has more than %d rows.", maxImportRows))
		case errors.Is(err, errLongRow):
			return nil, wrong, httpapi.Malformed(fmt.Sprintf("Row %d has more than %d bytes.", row, maxRowBytes))
		case errors.Is(err, csv.ErrFieldCount):
			wrong.add(httpapi.FieldError{Row: row, Detail: fmt.Sprintf("must have %d columns", len(columns))})
			continue
		case errors.As(err, &parseErr):
			return nil, wrong, httpapi.Malformed(fmt.Sprintf("Row %d is not CSV: %v.", row, parseErr.Err))
		}
		request, problems := parseMember(columns, record)
		for _, problem := range problems.Fields {
			problem.Row = row
			wrong.add(problem)
		}
		requests = append(requests, parsedMember{request, row})
	}
}

// columnsOf returns each column's position.
func columnsOf(header []string) (map[string]int, error) {
	columns := map[string]int{}
	for i, name := range header {
		name = strings.TrimSpace(name)
		_, twice := columns[name]
		if twice || !slices.Contains(importColumns, name) {
			return nil, httpapi.Malformed("The first row must name the columns, each once: " + strings.Join(importColumns, ", ") + ".")
		}
		columns[name] = i
	}
	for _, name := range importColumns[:neededColumns] {
		if _, there := columns[name]; !there {
			return nil, httpapi.Malformed("The column " + name + " is missing from the first row.")
		}
	}
	return columns, nil
}

func parseMember(columns map[string]int, record []string) (request memberRequest, wrong fields) {
	cell := func(name string) string {
		if i, there := columns[name]; there {
			return record[i]
		}
		return ""
	}
	email := cell("email")
	request = memberRequest{FirstName: cell("firstName"), LastName: cell("lastName"), Phone: cell("phone"), Email: &email}
	wrong = request.normalise()
	switch strings.ToLower(strings.TrimSpace(cell("optInSms"))) {
	case "", "true":
	case "false":
		*request.OptInSMS = false
	default:
		wrong.Check("optInSms", "must be true or false")
	}
	return request, wrong
}

// memberKey tells members apart: a family may share a phone.
type memberKey struct{ first, last, phone string }

func (r memberRequest) key() memberKey { return memberKey{r.FirstName, r.LastName, r.Phone} }

// alreadyMembers finds rows that repeat an earlier one, or a member.
func alreadyMembers(
	ctx context.Context, tx *tenantdb.Tx, tenant *tenantdb.Tenant, requests []parsedMember,
) (wrong importErrors, err error) {
	phones := map[string]string{} // by index
	var indexes []string
	for _, r := range requests {
		all, err := tenant.Indexes(tenantdb.MemberPhone, r.Phone)
		if err != nil {
			return wrong, err
		}
		for _, index := range all {
			phones[index] = r.Phone
		}
		indexes = append(indexes, all...)
	}
	known, err := tenantdb.All[struct{ FirstName, LastName, PhoneHash string }](ctx, tx, knownMembers, indexes)
	if err != nil {
		return wrong, err
	}
	seen := map[memberKey]bool{}
	for _, k := range known {
		seen[memberKey{k.FirstName, k.LastName, phones[k.PhoneHash]}] = true
	}
	for _, r := range requests {
		if seen[r.key()] {
			wrong.add(httpapi.FieldError{Row: r.row, Field: "phone", Detail: "duplicates a member, or an earlier row"})
		}
		seen[r.key()] = true
	}
	return wrong, nil
}

func insertMembers(ctx context.Context, tx *tenantdb.Tx, tenant *tenantdb.Tenant, requests []parsedMember) error {
	var id, first, last []string
	var phone, email [][]byte
	var phoneHash, emailHash []*string // the email's may be NULL
	var optIn []bool
	for _, r := range requests {
		values, err := r.sealed(tenant)
		if err != nil {
			return err
		}
		sealedEmail, _ := values[4].([]byte)
		phoneIndex, emailIndex := optionalText(values[3]), optionalText(values[5])
		id, first, last = append(id, ids.New()), append(first, r.FirstName), append(last, r.LastName)
		phone, phoneHash = append(phone, values[2].([]byte)), append(phoneHash, phoneIndex)
		email, emailHash, optIn = append(email, sealedEmail), append(emailHash, emailIndex), append(optIn, *r.OptInSMS)
	}
	_, err := tenantdb.Exec(ctx, tx, insertAll, id, first, last, phone, phoneHash, email, emailHash, optIn)
	return err
}

func optionalText(value any) *string {
	if text, ok := value.(string); ok {
		return &text
	}
	return nil
}
