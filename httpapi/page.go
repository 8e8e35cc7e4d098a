package httpapi

import (
	"encoding/base64"
	"fmt"
	"net/http"
	"net/url"
	"strconv"

	"github.com/gin-gonic/gin"

	"narthex/internal/ids"
)

const (
	defaultPage = 50
	maxPage     = 200
)

var (
	errLimit = newProblem(http.StatusBadRequest, "malformed-query", "The query is malformed",
		fmt.Sprintf("limit must be a number from 1 to %d.", maxPage))
	errCursor = newProblem(http.StatusBadRequest, "malformed-query", "The query is malformed",
		"cursor is not valid. Follow the next link exactly as you received it.")
)

// Page is the part of a list that a request asks for: at most Limit rows, with ids after After. Ids are
// ULIDs, which sort by creation time, so added and removed rows do not shift those on later pages.
type Page struct {
	Limit int
	After string // "" for the first page
}

// Fetch is how many rows to read. One more than Limit shows whether there is a next page.
func (p Page) Fetch() int { return p.Limit + 1 }

// PageOf reads ?limit&cursor. Errors are problems.
func PageOf(c *gin.Context) (Page, error) {
	page := Page{Limit: defaultPage}
	if text, given := c.GetQuery("limit"); given {
		limit, err := strconv.Atoi(text)
		if err != nil || limit < 1 || limit > maxPage {
			return page, errLimit
		}
		page.Limit = limit
	}
	if cursor, given := c.GetQuery("cursor"); given {
		after, err := base64.RawURLEncoding.Strict().DecodeString(cursor)
		if err != nil || !ids.Valid(string(after)) {
			return page, errCursor
		}
		page.After = string(after)
	}
	return page, nil
}

// QueryID reads an id from the query; "" means none. Errors are problems.
func QueryID(c *gin.Context, name string) (string, error) {
	id, given := c.GetQuery(name)
	if given && !ids.Valid(id) {
		return "", newProblem(http.StatusBadRequest, "malformed-query", "The query is malformed", name+" must be an id.")
	}
	return id, nil
}

type list[T any] struct {
	Items []T     `json:"items"`
	Next  *string `json:"next"` // the next page's path; null on the last
}

// WritePage sends a page, given up to page.Fetch() rows, with a link to the next page if there is one. id
// returns a row's id.
func WritePage[T any](c *gin.Context, page Page, rows []T, id func(T) string) {
	body := list[T]{Items: rows}
	if body.Items == nil {
		body.Items = []T{}
	}
	if len(rows) > page.Limit {
		body.Items = rows[:page.Limit]
		query := c.Request.URL.Query()
		query.Set("limit", strconv.Itoa(page.Limit))
		query.Set("cursor", base64.RawURLEncoding.EncodeToString([]byte(id(body.Items[page.Limit-1]))))
		next := (&url.URL{Path: c.Request.URL.Path, RawQuery: query.Encode()}).String()
		body.Next = &next
		c.Header("Link", "<"+next+`>; rel="next"`)
	}
	c.JSON(http.StatusOK, body)
}
