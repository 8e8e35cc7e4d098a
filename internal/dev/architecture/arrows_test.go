package architecture

import (
	"maps"
	"slices"
	"strings"
	"testing"
)

// arrows are all imports between this module's packages, except those of tests. Each row allows each package on its left to
// import each package on its right, for the reason given. A new arrow needs a row with a reason. A row without arrows must
// be removed. Names are relative to the module, and to internal.
var arrows = []struct{ from, to, reason string }{
	// Programs wire the layers together, and contain no rules.
	{"cmd/narthex cmd/narthex-dev", "cmd/internal/process", "Both programs run the same processes."},
	{"cmd/internal/process", "httpapi httpapi/services workflows activities", "An API and a worker consist of the layers."},
	{"cmd/internal/process", "registry sessions idempotency throttle fleet/ledger", "The layers keep rows in these."},
	{"cmd/internal/process", "tenantdb tenantserver migrations", "The layers work on churches' databases."},
	{"cmd/internal/process", "config secrets tokens password codec release telemetry redact", "It has settings, keys, a release and logs."},
	{"cmd/internal/process", "orphan readydb", "A worker schedules the sweeps and keeps databases ready."},
	{"cmd/internal/process", "fleet", "A worker counts churches by the version of their schema."},
	{"cmd/internal/process", "runs", "A process logs that Temporal's namespace is not prepared."},
	{"cmd/narthex", "signup invitation runs orphan email", "Commands call the functions that HTTP calls."},
	{"cmd/narthex", "registry tenantdb hardening", "Commands migrate, replace keys and check rights."},
	{"cmd/narthex", "fleet fleet/ledger migrations", "Operators start and steer runs over the fleet, and see what they did."},
	{"cmd/narthex", "tenantserver", "Operators see how churches' databases differ from the newest schema."},
	{"cmd/narthex", "config secrets codec release telemetry ids redact", "Commands have settings, keys and logs too."},

	// Workflows know the order of the steps, and only their names. Activities do the work.
	{"workflows", "saga signup invitation orphan readydb fleet", "A workflow runs its subject's steps."},
	{"activities", "saga signup invitation orphan readydb fleet", "An activity has its subject's input, and fails with the saga's errors."},
	{"activities", "registry fleet/ledger tenantserver tenantdb schema", "A step creates rows and databases."},
	{"activities", "secrets ids", "Inputs are sealed, and contain the ids of what is created."},
	{"activities", "redact sqlstate", "A failure says what PostgreSQL reported, without values, and whether to retry."},

	// HTTP decodes, calls and answers.
	{"httpapi", "signup invitation runs", "HTTP starts what a request asks for, and waits for it."},
	{"httpapi", "login", "HTTP asks who logs in, and answers with their session."},
	{"httpapi", "registry sessions throttle audit tenantdb", "HTTP looks up who asks, and opens their church's database."},
	{"httpapi", "email password text", "HTTP checks a request's fields by their rules."},
	{"httpapi", "tokens secrets ids", "HTTP checks and issues tokens, and hashes emails to look them up."},
	{"httpapi", "fleet", "HTTP says whether churches are behind."},
	{"httpapi", "codec", "HTTP opens payloads for Temporal's UI."},
	{"httpapi", "loopback redact telemetry", "HTTP guards local addresses, and reports errors."},
	{"httpapi/services", "httpapi tenantdb tokens", "A service gets its church's database and admin, and answers as all routes do."},
	{"httpapi/services", "email phone text ids", "Services check fields by the same rules."},

	// A subject is the input of a workflow, and what can be done with its runs.
	{"signup invitation", "runs saga secrets ids", "A subject has steps, runs, sealed input, and ids made before the start."},
	{"runs", "saga codec secrets release ids", "A run is found by attributes and read with the codec; a replay needs a release's worker."},
	{"saga", "ids", "Texts for people contain the database's name."},
	{"idempotency", "signup secrets", "A key reserves a signup, which is stored sealed."},
	{"login", "registry tenantdb sessions audit", "A login is an admin of the registry and of a church's database, and becomes a session."},
	{"login", "password", "A password is compared with its hash."},

	// Packages that keep rows in the registry database, each with its SQL.
	{"registry sessions throttle idempotency audit fleet/ledger", "postgres", "Connections survive a failover."},
	{"registry sessions", "audit", "A change and its entry in the audit log are one transaction."},
	{"registry", "sessions", "A removed admin's sessions end in the same transaction."},
	{"sessions", "ids", "A session has an id."},
	{"fleet/ledger", "fleet sqlstate redact", "The ledger records what a run did with a church, and why it failed, in words."},
	{"tenantdb", "fleet/ledger", "A church whose schema is too old moves to the head of the queue."},
	{"registry", "invitation orphan fleet", "Rows are stored as their subject has them."},

	// Databases.
	{"registry tenantdb", "secrets reseal", "Columns are sealed when they are written, and resealed under a new key."},
	{"registry tenantdb tenantserver", "migrations", "A database has a schema version."},
	{"registry tenantdb tenantserver", "sqlstate sqltrace", "PostgreSQL's errors are told apart, and statements are traced."},
	{"registry tenantdb", "redact", "Logs hold no values."},
	{"registry tenantserver", "schema", "Migrations are applied to the registry and to new databases."},
	{"tenantdb tenantserver schema", "postgres", "Connections survive a failover."},
	{"tenantdb", "registry", "The registry says where a church's database is."},
	{"tenantserver", "ids", "A database is named after its tenant."},
	{"tenantserver", "children", "A rehearsal runs pg_dump and pg_restore, which must not outlive the worker."},
	{"tenantserver", "catalog", "A church's database is compared with the newest schema."},
	{"postgres redact schema", "sqlstate", "One table says what an error of PostgreSQL means."},
	{"sqltrace", "redact", "Spans hold no values."},

	// Keys, settings and metrics.
	{"codec reseal", "secrets", "Payloads and columns are sealed under the same keys."},
	{"config", "secrets tokens", "Settings hold keysets, which are checked when they are read."},
	{"tokens", "ids", "A token's claims are checked ids."},
	{"telemetry", "config redact", "Logs have a format, and hold no values."},
	{"telemetry", "saga orphan fleet", "Stuck rollbacks, orphans and churches are counted under their subjects' names."},
	{"telemetry", "loopback", "Metrics on a local address answer only local requests."},
	{"email password", "text", "All fields share one definition of a line of text."},

	// Development and tests.
	{"cmd/narthex-dev cmd/narthex-bench", "children dev/localpg dev/devstack", "Both run servers on this machine."},
	{"cmd/narthex-bench", "fleet schema", "It compares a run over the fleet with golang-migrate's loop."},
	{"cmd/narthex-dev cmd/narthex-bench", "config registry secrets dev/searchattributes", "Both prepare a registry and a namespace."},
	{"cmd/narthex-dev", "dev/localtemporal telemetry", "The stack has a Temporal server, and a log."},
	{"cmd/narthex-bench", "dev/program signup migrations", "It compares the program with a plain one that makes the same databases."},
	{"cmd/narthex-bench", "httpapi httpapi/services sessions idempotency throttle tenantdb tokens ids", "It measures reads in-process."},
	{"dev/localpg dev/localtemporal dev/testenv", "children", "A server dies with the process that started it."},
	{"dev/devstack", "registry config secrets hardening", "A new stack has keys, a registry and hardened databases."},
	{"dev/devstack", "postgres", "A stack that moves tells the registry its server's new name."},
	{"dev/searchattributes", "saga fleet", "Each subject says which attributes its runs have."},
	{"dev/testenv", "dev/localpg dev/program registry secrets tokens", "Tests get a server, a registry, programs and keys."},
	{"dev/teststack", "httpapi httpapi/services workflows activities", "Tests of the whole system run all layers in their process."},
	{"dev/teststack", "registry sessions idempotency throttle tenantdb tenantserver migrations", "It wires the layers as a process does."},
	{"dev/teststack", "config secrets tokens password codec telemetry", "It has settings, keys and metrics."},
	{"dev/teststack", "dev/searchattributes signup invitation dev/testenv", "It has servers, a namespace, and runs to wait for."},
	{"dev/teststack", "fleet/ledger ids children", "It has a fleet to migrate, and workers that can be killed."},
}

func TestArrowsHaveReasons(t *testing.T) {
	t.Parallel()
	unused := map[string]bool{}
	for _, row := range arrows {
		if !strings.HasSuffix(row.reason, ".") {
			t.Errorf("%s → %s has the reason %q, want a sentence", row.from, row.to, row.reason)
		}
		for from := range strings.FieldsSeq(row.from) {
			for to := range strings.FieldsSeq(row.to) {
				arrow := from + " → " + to
				if unused[arrow] {
					t.Errorf("%s has two reasons", arrow)
				}
				unused[arrow] = true
			}
		}
	}
	allowed := maps.Clone(unused)
	for _, p := range list(t, "narthex/...") {
		for _, imported := range p.Imports {
			if !within(imported, "narthex") {
				continue
			}
			arrow := short(p.ImportPath) + " → " + short(imported)
			if !allowed[arrow] {
				t.Errorf("%s is a new arrow: if it belongs there, add it to arrows with a reason", arrow)
			}
			delete(unused, arrow)
		}
	}
	for _, arrow := range slices.Sorted(maps.Keys(unused)) {
		t.Errorf("nothing uses %s any more: remove it from arrows", arrow)
	}
}

func short(path string) string {
	return strings.TrimPrefix(strings.TrimPrefix(path, "narthex/"), "internal/")
}
