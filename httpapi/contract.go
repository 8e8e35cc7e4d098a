package httpapi

import (
	_ "embed"
	"net/http"

	"github.com/gin-gonic/gin"
	"github.com/swaggest/swgui/v5emb"
)

// contract describes every route, body and problem type (OpenAPI 3.0). The tests check all traffic against it.
//
//go:embed openapi.yaml
var contract []byte

// docsPolicy lets the docs page run its scripts. All its parts come from this server.
const docsPolicy = "default-src 'self'; script-src 'self' 'unsafe-inline'; style-src 'self' 'unsafe-inline'; " +
	"img-src 'self' data:; frame-ancestors 'none'"

func (a *api) serveContract(c *gin.Context) error {
	c.Data(http.StatusOK, "application/yaml", contract)
	return nil
}

const index = `<!doctype html>
<title>Narthex</title>
<p>Narthex signs churches up. <a href="/docs">The API's documentation</a>, <a href="/openapi.yaml">its contract</a>.</p>
`

// index links to the docs.
func (a *api) index(c *gin.Context) error {
	c.Data(http.StatusOK, "text/html; charset=utf-8", []byte(index))
	return nil
}

// docs serves the contract as a page that loads nothing from other hosts.
func docs() gin.HandlerFunc {
	page := v5emb.New("Narthex", "/openapi.yaml", "/docs")
	return func(c *gin.Context) {
		c.Header("Content-Security-Policy", docsPolicy)
		page.ServeHTTP(c.Writer, c.Request)
	}
}
