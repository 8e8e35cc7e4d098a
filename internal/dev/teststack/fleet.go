package teststack

import (
	"context"
	"encoding/json"
	"os"
	"os/exec"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/fstest"
	"time"

	"narthex/internal/children"
	"narthex/internal/dev/testenv"
	"narthex/internal/ids"
	"narthex/internal/registry"
	"narthex/internal/tenantserver"
)

// Two releases of a small tenant schema. The number of members shows how often the second release's first migration has run.
var (
	lastSchema = fstest.MapFS{
		"000001_first.up.sql":   {Data: []byte(`CREATE TABLE branches (id text); CREATE TABLE members (email text)`)},
		"000001_first.down.sql": {Data: []byte(`DROP TABLE members; DROP TABLE branches`)},
	}
	nextSchema = fstest.MapFS{
		"000001_first.up.sql": lastSchema["000001_first.up.sql"], "000001_first.down.sql": lastSchema["000001_first.down.sql"],
		"000002_planted.up.sql": {Data: []byte(`
			ALTER TABLE branches ADD COLUMN planted date;
			INSERT INTO members VALUES ('pat@example.org');
			SELECT pg_sleep(0.05)`)},
		"000002_planted.down.sql": {Data: []byte(`-- safe for data: it is a test
			ALTER TABLE branches DROP COLUMN planted; DELETE FROM members`)},
		"000003_email.up.sql":   {Data: []byte("-- no transaction\nCREATE UNIQUE INDEX CONCURRENTLY members_email_key ON members (email)")},
		"000003_email.down.sql": {Data: []byte("-- safe for data: it is a test\n-- no transaction\nDROP INDEX CONCURRENTLY members_email_key")},
	}
)

// The versions of the two releases.
const (
	LastVersion = 1
	NextVersion = 3
)

// fleetPatience is longer than the time between a rehearsal's heartbeats.
const fleetPatience = 10 * time.Second

// Fleet is churches with the schema of one release, which workers of the next release migrate. It has no API.
type Fleet struct {
	*Stack
	Churches     []string             // their ids
	Last         *tenantserver.Server // the server of their databases, as the previous release sees it
	Installation string

	seal, index string // its keys
	registry    *registry.Registry
}

// NewFleet makes churches. No worker runs yet.
func NewFleet(t *testing.T, churches int) *Fleet {
	t.Helper()
	f := &Fleet{Churches: make([]string, churches)}
	f.seal, f.index = testenv.Keysets(t)
	f.Stack = prepare(t, testenv.PostgresURL(t), testenv.ParseKeys(t, f.seal, f.index))
	f.schema = nextSchema
	f.registry = f.OpenRegistry()
	f.Last = f.openServer(f.registry, lastSchema)
	var err error
	f.Installation, err = f.registry.Installation(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := f.Last.EnsureTemplate(t.Context()); err != nil {
		t.Fatal(err)
	}
	var making sync.WaitGroup
	for i := range f.Churches {
		making.Go(func() { f.Churches[i] = f.Found() })
	}
	making.Wait()
	return f
}

// Found makes a church with the previous release's schema, like a signup on a worker of that release.
func (f *Fleet) Found() (tenantID string) {
	f.T.Helper()
	ctx := f.T.Context()
	d := tenantserver.Database{TenantID: ids.New(), SignupID: ids.New(), Password: "5ecret"}
	owner, email := registry.Owner{RunID: d.SignupID, TenantID: d.TenantID}, d.TenantID+"@example.org"
	url, host, port, name := f.Last.Location(d)
	_, err := f.Last.Create(ctx, d, func(context.Context) error { return nil }, nil)
	for _, step := range []func() error{
		func() error { return f.Last.Migrate(ctx, d) },
		func() error {
			church := registry.Church{Name: "Grace Chapel", Email: email, EmailHash: d.TenantID, CreatedAt: time.Now()}
			return f.registry.InsertChurch(ctx, owner, church)
		},
		func() error {
			return f.registry.InsertTenant(ctx, owner, registry.NewTenant{
				Name: "Grace Chapel", Email: email, DatabaseURL: url, DatabaseHost: host, DatabasePort: port, DatabaseName: name,
				SchemaVersion: LastVersion, SchemaServes: LastVersion, CreatedAt: time.Now(),
			})
		},
		func() error { return f.registry.ActivateTenant(ctx, owner, ids.New()) },
	} {
		if err == nil {
			err = step()
		}
	}
	if err != nil {
		f.T.Error(err)
	}
	return d.TenantID
}

// Work runs a worker of the next release in this process.
func (f *Fleet) Work() { f.work(f.Temporal) }

// workerSettings are what another process needs to run a worker.
type workerSettings struct {
	Registry, Service, Temporal, Queue, Seal, Index string
}

const workerVariable = "NARTHEX_TEST_WORKER"

// StartWorker runs a worker of the next release in a separate process. The process runs the test with this name, which
// calls WorkAlone. It ends with f's test.
func (f *Fleet) StartWorker(test string, variables ...string) *children.Process {
	f.T.Helper()
	settings, err := json.Marshal(workerSettings{
		Registry: f.RegistryURL, Service: f.serviceURL, Temporal: testenv.TemporalAddress(f.T), Queue: f.Queue, Seal: f.seal, Index: f.index,
	})
	if err != nil {
		f.T.Fatal(err)
	}
	cmd := exec.Command(os.Args[0], "-test.run", "^"+test+"$", "-test.v")
	cmd.Env = append(append(os.Environ(), workerVariable+"="+string(settings)), variables...)
	cmd.Stdout, cmd.Stderr = f.Log, f.Log
	process, err := children.Start(cmd, syscall.SIGKILL)
	if err != nil {
		f.T.Fatal(err)
	}
	f.T.Cleanup(func() { process.End(0) })
	return process
}

// WorkAlone runs a worker in a process that StartWorker has started. Otherwise it returns nil.
func WorkAlone(t *testing.T, prepare func(*Stack)) {
	t.Helper()
	var settings workerSettings
	if os.Getenv(workerVariable) == "" {
		return
	}
	if err := json.Unmarshal([]byte(os.Getenv(workerVariable)), &settings); err != nil {
		t.Fatal(err)
	}
	s := &Stack{
		T: t, Faults: newFaults(), Clock: &Clock{}, Log: &syncBuffer{also: os.Stderr}, sent: &atomic.Int64{},
		Keys: testenv.ParseKeys(t, settings.Seal, settings.Index), RegistryURL: settings.Registry, serviceURL: settings.Service,
		Queue: settings.Queue, schema: nextSchema,
	}
	s.Watch = s.StartWatch()
	s.Registry = testenv.OpenPool(t, s.RegistryURL)
	s.Temporal = DialAt(t, settings.Temporal, s.Logger(), s.Keys, s.Watch)
	prepare(s)
	s.work(s.Temporal)
	<-t.Context().Done() // until somebody ends the process
}
