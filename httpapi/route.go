package httpapi

// Route is a route of a church's own service. It answers bearers of a token, each in their church.
type Route struct {
	Method string
	Path   string // as gin writes it
	Handle TenantHandler
}
