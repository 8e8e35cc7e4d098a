package httpapi

// Route is a route of a church service. It serves token holders, each in their own church.
type Route struct {
	Method string
	Path   string // in gin's syntax
	Handle TenantHandler
}
