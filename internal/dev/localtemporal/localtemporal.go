// Package localtemporal runs Temporal's server and its UI, for development and tests: inside this process,
// with one history shard, on an SQLite file; or as a cluster, each service a process of its own, on
// PostgreSQL. It is not for production.
package localtemporal

// Options say where the server keeps its data and where it listens.
type Options struct {
	Dir             string // for the file and the log; made where it is missing
	Postgres        string // URL of the PostgreSQL server that a cluster keeps its databases on; empty runs one process on a file
	FrontendAddress string // host:port; port 0 picks a free one
	UIAddress       string // host:port; empty runs no UI
	Namespace       string // registered where it is missing
	CodecEndpoint   string // URL by which the UI opens sealed payloads; empty shows them as they are
}

// ServiceCommand is the command, with a service's name, of this program that runs RunService: a cluster's
// processes are the program itself.
const ServiceCommand = "temporal-service"
