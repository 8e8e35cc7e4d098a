package services

import (
	"errors"
	"net/http"
	"strings"
	"time"

	"github.com/gin-gonic/gin"

	"narthex/httpapi"
	"narthex/internal/ids"
	"narthex/internal/tenantdb"
	"narthex/internal/text"
	"narthex/internal/tokens"
)

var branchRoutes = []httpapi.Route{
	{Method: http.MethodGet, Path: "/api/branches", Handle: listBranches},
	{Method: http.MethodPost, Path: "/api/branches", Handle: createBranch},
	{Method: http.MethodGet, Path: "/api/branches/:id", Handle: readBranch},
	{Method: http.MethodPut, Path: "/api/branches/:id", Handle: replaceBranch},
	{Method: http.MethodDelete, Path: "/api/branches/:id", Handle: removeBranch},
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
	IsActive    *bool   `json:"isActive"` // true where it is missing
}

const (
	branchColumns  = ` id, name, address, phone, description, is_active, created_at, updated_at `
	selectBranches = `SELECT` + branchColumns + `FROM branches WHERE id > $1 ORDER BY id LIMIT $2`
	selectBranch   = `SELECT` + branchColumns + `FROM branches WHERE id = $1`
	branchExists   = `SELECT id FROM branches WHERE id = $1`
	insertBranch   = `
		INSERT INTO branches (id, name, address, phone, description, is_active)
		VALUES ($1, $2, $3, $4, $5, $6) RETURNING` + branchColumns
	updateBranch = `
		UPDATE branches SET name = $3, address = $4, phone = $5, description = $6, is_active = $7,
			updated_at = greatest(clock_timestamp(), updated_at + interval '1 microsecond')
		WHERE id = $1 AND ($2::timestamptz IS NULL OR updated_at = $2) RETURNING` + branchColumns
	deleteBranch = `DELETE FROM branches WHERE id = $1 AND ($2::timestamptz IS NULL OR updated_at = $2)`
)

func decodeBranch(c *gin.Context) (request branchRequest, err error) {
	if err := httpapi.Decode(c, &request); err != nil {
		return request, err
	}
	var wrong fields
	request.Name = strings.TrimSpace(request.Name)
	wrong.Check("name", text.CheckName(request.Name, 1, 200))
	wrong.optional("address", &request.Address, 500)
	wrong.optional("phone", &request.Phone, 50)
	wrong.optional("description", &request.Description, 2000)
	if request.IsActive == nil {
		request.IsActive = new(bool)
		*request.IsActive = true
	}
	return request, wrong.Err()
}

func listBranches(c *gin.Context, tenant *tenantdb.Tenant, _ tokens.Subject) error {
	page, err := httpapi.PageOf(c)
	if err != nil {
		return err
	}
	rows, err := tenantdb.All[branch](c.Request.Context(), tenant, selectBranches, page.After, page.Fetch())
	if err != nil {
		return err
	}
	httpapi.WritePage(c, page, rows, func(b branch) string { return b.ID })
	return nil
}

func createBranch(c *gin.Context, tenant *tenantdb.Tenant, _ tokens.Subject) error {
	request, err := decodeBranch(c)
	if err != nil {
		return err
	}
	row, err := tenantdb.One[branch](c.Request.Context(), tenant, insertBranch,
		ids.New(), request.Name, request.Address, request.Phone, request.Description, request.IsActive)
	if err != nil {
		return err
	}
	c.Header("Location", "/api/branches/"+row.ID)
	httpapi.WriteVersion(c, http.StatusCreated, row.UpdatedAt, row)
	return nil
}

func readBranch(c *gin.Context, tenant *tenantdb.Tenant, _ tokens.Subject) error {
	row, err := tenantdb.One[branch](c.Request.Context(), tenant, selectBranch, c.Param("id"))
	if err != nil {
		return err
	}
	httpapi.WriteVersion(c, http.StatusOK, row.UpdatedAt, row)
	return nil
}

func replaceBranch(c *gin.Context, tenant *tenantdb.Tenant, _ tokens.Subject) error {
	version, err := httpapi.IfMatch(c)
	if err != nil {
		return err
	}
	request, err := decodeBranch(c)
	if err != nil {
		return err
	}
	row, err := tenantdb.One[branch](c.Request.Context(), tenant, updateBranch,
		c.Param("id"), version, request.Name, request.Address, request.Phone, request.Description, request.IsActive)
	if errors.Is(err, tenantdb.ErrNotFound) {
		return whyNot(c, tenant, branchExists, c.Param("id"))
	}
	if err != nil {
		return err
	}
	httpapi.WriteVersion(c, http.StatusOK, row.UpdatedAt, row)
	return nil
}

func removeBranch(c *gin.Context, tenant *tenantdb.Tenant, _ tokens.Subject) error {
	version, err := httpapi.IfMatch(c)
	if err != nil {
		return err
	}
	rows, err := tenantdb.Exec(c.Request.Context(), tenant, deleteBranch, c.Param("id"), version)
	return removed(c, tenant, rows, err, branchExists, c.Param("id"))
}
