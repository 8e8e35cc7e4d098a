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

// collection is a table whose rows can be listed, and created, read, replaced and removed one by one. A change names
// the version that it applies to. Row is what a query returns, Item is what the church sees.
type collection[Row any, Item item] struct {
	path   string
	sql    statements
	decode func(*gin.Context, *tenantdb.Tenant) (values []any, err error)
	open   func(Row, *tenantdb.Tenant) (Item, error)
}

type statements struct {
	list   string // $1: the id before the first row, $2: the number of rows
	one    string // $1: id
	insert string // $1: id, then decode's values
	update string // $1: id, $2: version or NULL, then decode's values
	remove string // $1: id, $2: version or NULL
}

type item interface {
	version() (id string, updatedAt time.Time)
}

func (t collection[Row, Item]) routes() []httpapi.Route {
	return []httpapi.Route{
		{Method: http.MethodGet, Path: t.path, Handle: t.list},
		{Method: http.MethodPost, Path: t.path, Handle: t.create},
		{Method: http.MethodGet, Path: t.path + "/:id", Handle: t.read},
		{Method: http.MethodPut, Path: t.path + "/:id", Handle: t.replace},
		{Method: http.MethodDelete, Path: t.path + "/:id", Handle: t.remove},
	}
}

func (t collection[Row, Item]) list(c *gin.Context, tenant *tenantdb.Tenant, _ tokens.Subject) error {
	page, err := httpapi.PageOf(c)
	if err != nil {
		return err
	}
	return t.writePage(c, tenant, page, t.sql.list)
}

// writePage sends a page of the rows that a query like sql.list finds. The query may take more arguments.
func (t collection[Row, Item]) writePage(c *gin.Context, tenant *tenantdb.Tenant, page httpapi.Page, query string, more ...any) error {
	rows, err := tenantdb.All[Row](c.Request.Context(), tenant, query, append([]any{page.After, page.Fetch()}, more...)...)
	if err != nil {
		return err
	}
	items := make([]Item, len(rows))
	for i, row := range rows {
		items[i], err = t.open(row, tenant)
		if err != nil {
			return err
		}
	}
	httpapi.WritePage(c, page, items, func(i Item) string { id, _ := i.version(); return id })
	return nil
}

func (t collection[Row, Item]) create(c *gin.Context, tenant *tenantdb.Tenant, _ tokens.Subject) error {
	values, err := t.decode(c, tenant)
	if err != nil {
		return err
	}
	id := ids.New()
	row, err := tenantdb.One[Row](c.Request.Context(), tenant, t.sql.insert, append([]any{id}, values...)...)
	if err != nil {
		return err
	}
	c.Header("Location", t.path+"/"+id)
	return t.write(c, tenant, http.StatusCreated, row)
}

func (t collection[Row, Item]) read(c *gin.Context, tenant *tenantdb.Tenant, _ tokens.Subject) error {
	row, err := tenantdb.One[Row](c.Request.Context(), tenant, t.sql.one, c.Param("id"))
	if err != nil {
		return err
	}
	return t.write(c, tenant, http.StatusOK, row)
}

func (t collection[Row, Item]) replace(c *gin.Context, tenant *tenantdb.Tenant, _ tokens.Subject) error {
	version, err := httpapi.IfMatch(c)
	if err != nil {
		return err
	}
	values, err := t.decode(c, tenant)
	if err != nil {
		return err
	}
	row, err := tenantdb.One[Row](c.Request.Context(), tenant, t.sql.update, append([]any{c.Param("id"), version}, values...)...)
	if errors.Is(err, tenantdb.ErrNotFound) {
		return t.whyNot(c, tenant)
	}
	if err != nil {
		return err
	}
	return t.write(c, tenant, http.StatusOK, row)
}

func (t collection[Row, Item]) remove(c *gin.Context, tenant *tenantdb.Tenant, _ tokens.Subject) error {
	version, err := httpapi.IfMatch(c)
	if err != nil {
		return err
	}
	rows, err := tenantdb.Exec(c.Request.Context(), tenant, t.sql.remove, c.Param("id"), version)
	if err != nil {
		return err
	}
	if rows == 0 {
		return t.whyNot(c, tenant)
	}
	c.Status(http.StatusNoContent)
	return nil
}

// whyNot says why no row was changed: its version differs, or it does not exist.
func (t collection[Row, Item]) whyNot(c *gin.Context, tenant *tenantdb.Tenant) error {
	if _, err := tenantdb.One[Row](c.Request.Context(), tenant, t.sql.one, c.Param("id")); err != nil {
		return err
	}
	return httpapi.ErrChanged
}

func (t collection[Row, Item]) write(c *gin.Context, tenant *tenantdb.Tenant, status int, row Row) error {
	opened, err := t.open(row, tenant)
	if err != nil {
		return err
	}
	_, updatedAt := opened.version()
	httpapi.WriteVersion(c, status, updatedAt, opened)
	return nil
}
