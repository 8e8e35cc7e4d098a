package services

import (
	"strings"
	"time"

	"github.com/gin-gonic/gin"

	"narthex/httpapi"
	"narthex/internal/tenantdb"
	"narthex/internal/text"
)

var branches = collection[branch, branch]{
	path:   "/api/branches",
	sql:    statements{list: selectBranches, one: selectBranch, insert: insertBranch, update: updateBranch, remove: deleteBranch},
	decode: decodeBranch,
	open:   func(b branch, _ *tenantdb.Tenant) (branch, error) { return b, nil },
}

// branch is a place where the church meets.
type branch struct {
	ID          string    `json:"id"`
	Name        string    `json:"name"`
	Address     *string   `json:"address"`
	Phone       *string   `json:"phone"`
	Description *string   `json:"description"`
	IsActive    bool      `json:"isActive"`
	CreatedAt   time.Time `json:"createdAt"`
	UpdatedAt   time.Time `json:"updatedAt"`
}

type branchRequest struct {
	Name        string  `json:"name"`
	Address     *string `json:"address"`
	Phone       *string `json:"phone"`
	Description *string `json:"description"`
	IsActive    *bool   `json:"isActive"` // true if missing
}

const (
	branchColumns  = ` id, name, address, phone, description, is_active, created_at, updated_at `
	selectBranches = `SELECT` + branchColumns + `FROM branches WHERE id > $1 ORDER BY id LIMIT $2`
	selectBranch   = `SELECT` + branchColumns + `FROM branches WHERE id = $1`
	insertBranch   = `
		INSERT INTO branches (id, name, address, phone, description, is_active)
		VALUES ($1, $2, $3, $4, $5, $6) RETURNING` + branchColumns
	updateBranch = `
		UPDATE branches SET name = $3, address = $4, phone = $5, description = $6, is_active = $7,
			updated_at = greatest(clock_timestamp(), updated_at + interval '1 microsecond')
		WHERE id = $1 AND ($2::timestamptz IS NULL OR updated_at = $2) RETURNING` + branchColumns
	deleteBranch = `DELETE FROM branches WHERE id = $1 AND ($2::timestamptz IS NULL OR updated_at = $2)`
)

func (b branch) version() (string, time.Time) { return b.ID, b.UpdatedAt }

func decodeBranch(c *gin.Context, _ *tenantdb.Tenant) (values []any, err error) {
	var request branchRequest
	if err := httpapi.Decode(c, &request); err != nil {
		return nil, err
	}
	var wrong fields
	request.Name = strings.TrimSpace(request.Name)
	wrong.Check("name", text.CheckName(request.Name, 1, 200))
	wrong.optional("address", &request.Address, 500)
	wrong.optional("phone", &request.Phone, 50)
	wrong.optional("description", &request.Description, 2000)
	active := request.IsActive == nil || *request.IsActive
	return []any{request.Name, request.Address, request.Phone, request.Description, active}, wrong.Err()
}
