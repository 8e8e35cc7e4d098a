// Package temporaldev runs Temporal's server and its UI inside this process, for development and
// tests: one node, one history shard, an SQLite file. It is not for production.
package temporaldev

// Options say where the server keeps its file and where it listens.
type Options struct {
	Dir             string // made where it is missing
	FrontendAddress string // host:port; port 0 picks a free one
	UIAddress       string // host:port; empty runs no UI
	Namespace       string // registered where it is missing
	CodecEndpoint   string // URL by which the UI opens sealed payloads; empty shows them as they are
}
