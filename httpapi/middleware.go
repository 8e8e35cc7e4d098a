package httpapi

import (
	"fmt"
	"net/http"
	"runtime/debug"

	"github.com/gin-gonic/gin"
)

var errInternal = newProblem(http.StatusInternalServerError, "internal", "Something went wrong here", "")

// secureHeaders tells browsers to make nothing of an answer but data, and caches to keep none.
func secureHeaders(c *gin.Context) {
	for name, value := range map[string]string{
		"Cache-Control":           "no-store",
		"Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
		"Referrer-Policy":         "no-referrer",
		"X-Content-Type-Options":  "nosniff",
		"X-Frame-Options":         "DENY",
	} {
		c.Header(name, value)
	}
}

// recoverPanics answers a panic with a problem. The panic's value may hold data: only its type and the
// stack are logged.
func (a *api) recoverPanics(c *gin.Context) {
	defer func() {
		if value := recover(); value != nil {
			a.Log.ErrorContext(c.Request.Context(), "panic", "route", c.FullPath(), "type", fmt.Sprintf("%T", value), "stack", string(debug.Stack()))
			if !c.Writer.Written() {
				a.writeProblem(c, errInternal)
			}
		}
	}()
	c.Next()
}
