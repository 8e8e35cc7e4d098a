// Package localtemporal runs Temporal's server and its UI, for development and tests: either inside this
// process, with one history shard, on an SQLite file; or as a cluster on PostgreSQL, with a process for
// each service. It is not for production.
package localtemporal

// Options say where the server keeps its data and where it listens.
type Options struct {
	Dir             string // for the file and the log; created if missing
	Postgres        string // URL of the PostgreSQL server that a cluster keeps its databases on; empty runs one process on a file
	FrontendAddress string // host:port; port 0 picks a free one
	UIAddress       string // host:port; empty runs no UI
	Namespace       string // registered if missing
	CodecEndpoint   string // URL with which the UI opens sealed payloads; if empty, it shows them as they are
}

// ServiceCommand is this program's command, followed by a service's name, that calls RunService. A
// cluster's processes run this program itself.
const ServiceCommand = "temporal-service"
