package httpapi

import (
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/gin-gonic/gin"
)

var (
	errNoIfMatch = newProblem(http.StatusPreconditionRequired, "precondition-required", "The If-Match header is missing",
		"Send the ETag that you received, so that you don't overwrite somebody else's change.")
	errIfMatch = newProblem(http.StatusBadRequest, "malformed-if-match", "The If-Match header is malformed",
		"Send one ETag exactly as you received it, or *.")

	// ErrChanged says that a row has changed since the client read it.
	ErrChanged = newProblem(http.StatusPreconditionFailed, "changed-meanwhile", "It has changed since you fetched it",
		"Fetch it again and retry.")
)

// ETag is a row's version: when it was last changed.
func ETag(updatedAt time.Time) string {
	return `"` + strconv.FormatInt(updatedAt.UnixMicro(), 36) + `"`
}

// WriteVersion sends a row with its ETag.
func WriteVersion(c *gin.Context, status int, updatedAt time.Time, row any) {
	c.Header("ETag", ETag(updatedAt))
	c.JSON(status, row)
}

// IfMatch reads which version of a row a change applies to; nil means any (If-Match: *). Errors are problems:
// every change must name a version.
func IfMatch(c *gin.Context) (*time.Time, error) {
	values := c.Request.Header.Values("If-Match")
	if len(values) == 0 {
		return nil, errNoIfMatch
	}
	text := strings.TrimSpace(values[0])
	if text == "*" && len(values) == 1 {
		return nil, nil
	}
	inner, quoted := strings.CutPrefix(text, `"`)
	inner, closed := strings.CutSuffix(inner, `"`)
	micros, err := strconv.ParseInt(inner, 36, 64)
	if len(values) > 1 || !quoted || !closed || err != nil {
		return nil, errIfMatch
	}
	version := time.UnixMicro(micros)
	if ETag(version) != text {
		return nil, errIfMatch
	}
	return &version, nil
}
