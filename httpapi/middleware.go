package httpapi

import (
	"fmt"
	"net/http"
	"runtime/debug"

	"github.com/gin-gonic/gin"
)

var errInternal = newProblem(http.StatusInternalServerError, "internal", "Internal error", "")

// secureHeaders tells browsers to treat answers as plain data, and caches not to store them.
func secureHeaders(c *gin.Context) {
	c.Header("Cache-Control", "no-store")
	c.Header("Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'")
	c.Header("Referrer-Policy", "no-referrer")
	c.Header("X-Content-Type-Options", "nosniff")
	c.Header("X-Frame-Options", "DENY")
}

// recoverPanics answers a panic with a problem. The panic's value may contain data, so only its type and
// the stack are logged.
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
