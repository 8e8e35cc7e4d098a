package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/fstest"
	"time"

	"github.com/jackc/pgx/v5"
	"golang.org/x/sync/errgroup"

	"narthex/internal/dev/localpg"
	"narthex/internal/dev/testenv"
	"narthex/internal/fleet"
	"narthex/internal/ids"
	"narthex/internal/registry"
	"narthex/internal/secrets"
	"narthex/internal/tenantserver"
	"narthex/internal/tokens"
	"narthex/migrations"
)

// smallSchema is the part of the tenant schema that branches need.
var smallSchema = fstest.MapFS{
	"000001_small.up.sql": {Data: []byte(`
		CREATE TABLE branches (id text PRIMARY KEY, name text NOT NULL, address text, phone text, description text,
			is_active boolean NOT NULL DEFAULT true,
			created_at timestamptz NOT NULL DEFAULT now(), updated_at timestamptz NOT NULL DEFAULT now())`)},
	"000001_small.down.sql": {Data: []byte(`DROP TABLE branches`)},
}

// nextMigration is what the next release adds to the tenant schema.
func nextMigration() map[string]string {
	name := fmt.Sprintf("%06d_planted", migrations.TenantVersion()+1)
	return map[string]string{
		name + ".up.sql":   fmt.Sprintf("-- compatible with: %d\nALTER TABLE branches ADD COLUMN planted date;\n", migrations.TenantVersion()),
		name + ".down.sql": "-- safe for data: it is a test\nALTER TABLE branches DROP COLUMN planted;\n",
	}
}

// testFleet is churches with this release's schema, and the next release's program.
type testFleet struct {
	t         *testing.T
	variables []string
	dir       string // of its PostgreSQL server
	admin     *url.URL
	postgres  *localpg.Server
	keys      *secrets.Keys
	issuer    *tokens.Issuer
	churches  []string

	nextReading func(t testing.TB, input io.Reader, environment []string, arguments ...string) *testenv.Run
}

// next runs the next release's program.
func (f *testFleet) next(t testing.TB, environment []string, arguments ...string) *testenv.Run {
	t.Helper()
	return f.nextReading(t, nil, environment, arguments...)
}

func newTestFleet(t *testing.T, churches int) *testFleet {
	t.Helper()
	f := &testFleet{t: t, dir: filepath.Join(testenv.FolderFor(t, 4<<30), "postgres")}
	f.startPostgres(0)
	t.Cleanup(func() { _ = f.postgres.Stop() })
	var err error
	if f.admin, err = url.Parse(f.postgres.AdminURL()); err != nil {
		t.Fatal(err)
	}
	f.exec("postgres", "CREATE DATABASE registry")
	f.variables = append(environment(t, sharedTemporal(t)),
		"REGISTRY_URL="+f.urlOf("registry"), "TENANT_SERVER_URL="+f.admin.String(), "SIGNUP_WAIT=1m")
	wantPrinted(t, f.variables, "migrate")
	f.readKeys()
	f.found(churches)
	f.nextReading = testenv.NextRelease(t, "narthex", nextMigration())
	return f
}

func (f *testFleet) startPostgres(port int) {
	f.t.Helper()
	settings := map[string]string{"max_connections": "300", "max_wal_size": "256MB"}
	postgres, err := localpg.Start(context.Background(), localpg.Options{Dir: f.dir, Port: port, Settings: settings})
	if err != nil {
		f.t.Fatal(err)
	}
	f.postgres = postgres
}

func (f *testFleet) urlOf(database string) string {
	u := *f.admin
	u.Path = "/" + database
	return u.String()
}

func (f *testFleet) exec(database, sql string) {
	f.t.Helper()
	if _, err := testenv.Connect(f.t, f.urlOf(database)).Exec(f.t.Context(), sql); err != nil {
		f.t.Fatalf("%s: %v", sql, err)
	}
}

func (f *testFleet) readKeys() {
	f.t.Helper()
	var seal secrets.SealKeyset
	var index secrets.IndexKeyset
	var signer tokens.Keys
	for name, key := range map[string]interface{ UnmarshalText([]byte) error }{
		"SEAL_KEYSET": &seal, "INDEX_KEYSET": &index, "TOKEN_KEY": &signer,
	} {
		if err := key.UnmarshalText([]byte(strings.TrimPrefix(variable(f.variables, name), name+"="))); err != nil {
			f.t.Fatal(err)
		}
	}
	f.keys, f.issuer = secrets.New(seal, index), tokens.New(signer, "narthex", "narthex-api", time.Now)
}

// found makes churches with this release's schema.
func (f *testFleet) found(churches int) {
	f.t.Helper()
	reg, err := registry.Open(f.t.Context(), f.urlOf("registry"), f.keys)
	if err != nil {
		f.t.Fatal(err)
	}
	defer reg.Close()
	if err := reg.CheckKeys(f.t.Context()); err != nil {
		f.t.Fatal(err)
	}
	installation, err := reg.Installation(f.t.Context())
	if err != nil {
		f.t.Fatal(err)
	}
	server, err := tenantserver.Open(f.t.Context(), f.admin.String(), installation, smallSchema)
	if err != nil {
		f.t.Fatal(err)
	}
	defer server.Close()
	if err := server.EnsureTemplate(f.t.Context()); err != nil {
		f.t.Fatal(err)
	}
	f.churches = make([]string, churches)
	var making errgroup.Group
	making.SetLimit(4)
	for i := range f.churches {
		f.churches[i] = ids.New()
		making.Go(func() error { return foundChurch(f.t.Context(), reg, server, f.churches[i]) })
	}
	if err := making.Wait(); err != nil {
		f.t.Fatal(err)
	}
}

func foundChurch(ctx context.Context, reg *registry.Registry, server *tenantserver.Server, id string) error {
	d := tenantserver.Database{TenantID: id, SignupID: ids.New(), Password: "5ecret"}
	owner, email := registry.Owner{RunID: d.SignupID, TenantID: id}, id+"@example.org"
	url, host, port, name := server.Location(d)
	_, err := server.Create(ctx, d, func(context.Context) error { return nil }, nil)
	if err == nil {
		err = server.Migrate(ctx, d)
	}
	if err == nil {
		err = reg.InsertChurch(ctx, owner, registry.Church{Name: "Grace Chapel", Email: email, EmailHash: id, CreatedAt: time.Now()})
	}
	if err == nil {
		err = reg.InsertTenant(ctx, owner, registry.NewTenant{
			Name: "Grace Chapel", Email: email, DatabaseURL: url, DatabaseHost: host, DatabasePort: port, DatabaseName: name,
			SchemaVersion: migrations.TenantVersion(), SchemaServes: migrations.TenantVersion(), CreatedAt: time.Now(),
		})
	}
	if err == nil {
		err = reg.ActivateTenant(ctx, owner, ids.New())
	}
	return err
}

// wantVersions checks each church's schema version, in its database and in the registry.
func (f *testFleet) wantVersions(when string, want map[string]int) {
	f.t.Helper()
	reg := testenv.Connect(f.t, f.urlOf("registry"))
	for id, version := range want {
		var recorded, there int
		if err := reg.QueryRow(f.t.Context(), `SELECT schema_version FROM tenants WHERE id = $1`, id).Scan(&recorded); err != nil {
			f.t.Fatal(err)
		}
		church, err := pgx.Connect(f.t.Context(), f.urlOf("tenant_"+id))
		if err != nil {
			f.t.Fatal(err)
		}
		err = church.QueryRow(f.t.Context(), `SELECT version FROM narthex_migrations.versions WHERE NOT dirty`).Scan(&there)
		church.Close(context.Background())
		if err != nil || recorded != version || there != version {
			f.t.Errorf("%s, %s is at %d, in the registry at %d (%v), want %d", when, id, there, recorded, err, version)
		}
	}
}

// status returns what the next release's program says about the fleet.
func (f *testFleet) status() (status fleetStatus) {
	f.t.Helper()
	run := f.next(f.t, f.variables, "fleet", "status", "--json")
	if code := run.Exit(); code != 0 {
		f.t.Fatalf("fleet status: status %d\n%s", code, run.Output())
	}
	if err := json.Unmarshal([]byte(run.Output()), &status); err != nil {
		f.t.Fatalf("fleet status: %v\n%s", err, run.Output())
	}
	return status
}

// command runs a command of the next release.
func (f *testFleet) command(wantStatus int, want string, arguments ...string) {
	f.t.Helper()
	run := f.next(f.t, f.variables, append([]string{"fleet"}, arguments...)...)
	if status := run.Exit(); status != wantStatus || !strings.Contains(run.Output(), want) {
		f.t.Errorf("fleet %v: status %d, it prints\n%s\nwant status %d and %q in it", arguments, status, run.Output(), wantStatus, want)
	}
}

func (f *testFleet) worker() *testenv.Run {
	f.t.Helper()
	worker := f.next(f.t, append(f.variables, "BUILD_ID=2"), "worker")
	worker.WaitFor(`"msg":"ready"`)
	return worker
}

// killPostgres kills the PostgreSQL server, and starts it again on the same port.
func (f *testFleet) killPostgres() {
	f.t.Helper()
	files, err := filepath.Glob(filepath.Join(f.dir, "*", "postmaster.pid"))
	if len(files) != 1 {
		files, err = filepath.Glob(filepath.Join(f.dir, "postmaster.pid"))
	}
	if err != nil || len(files) != 1 {
		f.t.Fatalf("the server's process id is in %v (%v), want one file", files, err)
	}
	content, err := os.ReadFile(files[0])
	if err != nil {
		f.t.Fatal(err)
	}
	pid, err := strconv.Atoi(strings.Fields(string(content))[0])
	if err != nil {
		f.t.Fatal(err)
	}
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		f.t.Fatal(err)
	}
	_ = f.postgres.Stop()
	port, err := strconv.Atoi(f.admin.Port())
	if err != nil {
		f.t.Fatal(err)
	}
	f.startPostgres(port)
}

// traffic reads and writes in all churches, and logs in, until it is stopped.
type traffic struct {
	quiet  atomic.Bool // failures are not counted
	failed atomic.Pointer[string]
	done   atomic.Int64
	group  sync.WaitGroup
	stop   context.CancelFunc
}

func (f *testFleet) traffic(api string, people []map[string]string) *traffic {
	f.t.Helper()
	ctx, stop := context.WithCancel(f.t.Context())
	tr := &traffic{stop: stop}
	bearer := map[string]string{}
	for _, id := range f.churches {
		token, err := f.issuer.Mint(tokens.Subject{TenantID: id, AdminID: ids.New(), SessionID: ids.New(), Role: "PRIMARY"})
		if err != nil {
			f.t.Fatal(err)
		}
		bearer[id] = token
	}
	tr.group.Go(func() {
		for i := 0; ctx.Err() == nil; i++ {
			token := bearer[f.churches[i%len(f.churches)]]
			tr.ask(ctx, http.MethodGet, api+"/api/branches", token, "")
			tr.ask(ctx, http.MethodPost, api+"/api/branches", token, `{"name":"East"}`)
		}
	})
	tr.group.Go(func() {
		for i := 0; ctx.Err() == nil; i++ {
			person := people[i%len(people)]
			login, _ := json.Marshal(map[string]string{"email": person["email"], "password": person["password"]})
			tr.ask(ctx, http.MethodPost, api+"/api/auth/login", "", string(login))
			select {
			case <-ctx.Done():
			case <-time.After(loginPause):
			}
		}
	})
	return tr
}

const loginPause = 3 * time.Second // logins are throttled

func (tr *traffic) ask(ctx context.Context, method, url, token, body string) {
	quiet := tr.quiet.Load()
	request, err := http.NewRequestWithContext(ctx, method, url, strings.NewReader(body))
	if err != nil {
		return
	}
	request.Header.Set("Content-Type", "application/json")
	if token != "" {
		request.Header.Set("Authorization", "Bearer "+token)
	}
	said := wrongWith(request)
	switch {
	case said == "":
		tr.done.Add(1)
	case ctx.Err() == nil && !quiet && !tr.quiet.Load():
		tr.failed.CompareAndSwap(nil, &said)
	}
}

// wrongWith sends a request, and returns what is wrong with the answer, or "".
func wrongWith(request *http.Request) string {
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return fmt.Sprintf("%s %s: %v", request.Method, request.URL, err)
	}
	defer response.Body.Close()
	answer, err := io.ReadAll(response.Body)
	if err == nil && response.StatusCode < http.StatusBadRequest {
		return ""
	}
	return fmt.Sprintf("%s %s: %s %s (%v)", request.Method, request.URL, response.Status, answer, err)
}

func (tr *traffic) end(t *testing.T) {
	t.Helper()
	tr.stop()
	tr.group.Wait()
	if said := tr.failed.Load(); said != nil {
		t.Errorf("a request failed during the run: %s", *said)
	}
	if tr.done.Load() == 0 {
		t.Error("no request was made during the run")
	}
	t.Logf("%d requests were answered during the run", tr.done.Load())
}

const fleetSize = 300

// The fleet is migrated to the next release's schema while both releases serve it, churches sign up, the worker and
// PostgreSQL are killed, and the run is paused. Then the run is undone.
func TestAFleetIsMigratedWhileInUse(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("it takes minutes, and everything runs in separate processes")
	}
	f := newTestFleet(t, fleetSize)
	broken := f.churches[fleetSize/2]
	f.exec("tenant_"+broken, `ALTER TABLE branches ADD COLUMN planted date`)
	release := f.lock(f.churches[fleetSize/3], holdUpChanges)
	api := ready(testenv.Start(t, append(f.variables, "BUILD_ID=1"), "narthex", "serve"))
	people, signedUp := signUpSome(t, api)
	requests := f.traffic(api, people)

	newest := migrations.TenantVersion() + 1
	f.command(0, fmt.Sprintf("%d churches are behind schema version %d", fleetSize+len(people), newest), "status")
	f.command(1, "use --yes", "migrate")
	f.command(1, "the run was refused: the run's target is version 2, but the worker's release has 1", "migrate", "--yes")
	worker := f.worker()
	f.command(0, "has started", "migrate", "--yes", "--no-wait", "--soak", "0", "--rate", "40", "--at-once", "4", "--halt-at", "1%")
	run := f.await("some are changed", func(r runStatus) bool { return r.Tally.Changed > 20 })
	signedUp = append(signedUp, f.pauseAndResume(run, api))
	f.killWorker(worker)
	release()
	requests.quiet.Store(true)
	f.killPostgres()
	requests.settle(t)
	signedUp = append(signedUp, wantOK(t, api+"/api/auth/register", applicant())["tenantId"].(string))

	f.await("it is completed", func(r runStatus) bool { return r.State == fleet.Completed })
	requests.end(t)
	want := map[string]int{}
	for _, id := range append(signedUp, f.churches...) {
		want[id] = newest
	}
	want[broken]--
	f.wantVersions("after the run", want)
	if failures := f.status().Runs[0].Failures; len(failures) != 1 || failures[0].TenantID != broken || failures[0].SQLState != "42701" {
		t.Errorf("the failures are %+v, want only %s, with 42701", failures, broken)
	}
	f.command(0, "1 church is behind", "status")
	f.takeBack(run, want)
}

// Statements whose locks hold up a change of a church, or a dump of it too.
const (
	holdUpChanges = `SELECT FROM branches`
	holdUpDumps   = `LOCK TABLE branches`
)

// lock keeps the lock of a statement in a church's database until it is released.
func (f *testFleet) lock(id, statement string) (release func()) {
	f.t.Helper()
	tx, err := testenv.Connect(f.t, f.urlOf("tenant_"+id)).Begin(f.t.Context())
	if err == nil {
		_, err = tx.Exec(f.t.Context(), statement)
	}
	if err != nil {
		f.t.Fatal(err)
	}
	return func() {
		f.t.Helper()
		if err := tx.Rollback(f.t.Context()); err != nil {
			f.t.Fatal(err)
		}
	}
}

// signUpSome signs up several people, because throttles limit the logins of one.
func signUpSome(t *testing.T, api string) (people []map[string]string, tenantIDs []string) {
	t.Helper()
	for range 4 {
		person := applicant()
		people = append(people, person)
		tenantIDs = append(tenantIDs, wantOK(t, api+"/api/auth/register", person)["tenantId"].(string))
	}
	return people, tenantIDs
}

// pauseAndResume pauses a run, signs a church up, and resumes the run.
func (f *testFleet) pauseAndResume(run, api string) (tenantID string) {
	f.t.Helper()
	f.command(0, "is paused", "pause", "--yes")
	f.await("it is paused", func(r runStatus) bool { return r.State == fleet.Paused })
	time.Sleep(time.Second) // churches that are being changed
	paused := f.status().Runs[0].Tally
	tenantID = wantOK(f.t, api+"/api/auth/register", applicant())["tenantId"].(string)
	time.Sleep(time.Second)
	if now := f.status().Runs[0].Tally; now != paused {
		f.t.Errorf("two seconds after the pause the tally is %+v, and before it was %+v", now, paused)
	}
	f.command(0, "has resumed", "resume", run, "--yes")
	f.await("more are changed", func(r runStatus) bool { return r.Tally.Changed > paused.Changed+20 })
	return tenantID
}

// killWorker kills the worker, starts another, and waits until that has changed churches too.
func (f *testFleet) killWorker(worker *testenv.Run) {
	f.t.Helper()
	worker.Signal(syscall.SIGKILL)
	worker.Exit()
	f.worker()
	changed := f.status().Runs[0].Tally.Changed
	f.await("more are changed after the worker was killed", func(r runStatus) bool { return r.Tally.Changed > changed+20 })
}

// takeBack undoes a run, and checks that exactly its churches have their old version.
func (f *testFleet) takeBack(run string, want map[string]int) {
	f.t.Helper()
	reg := testenv.Connect(f.t, f.urlOf("registry"))
	rows, _ := reg.Query(f.t.Context(), `SELECT tenant_id FROM fleet_changes WHERE run_id = $1 AND state = 'changed'`, run)
	changed, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		f.t.Fatal(err)
	}
	for _, id := range changed {
		want[id] = migrations.TenantVersion()
	}
	f.command(0, fmt.Sprintf("is completed: %d of %d churches", len(changed), len(changed)), "undo", run, "--yes")
	f.wantVersions("after the undo", want)
}

// settle waits until requests are answered again.
func (tr *traffic) settle(t *testing.T) {
	t.Helper()
	before := tr.done.Load()
	for deadline := time.Now().Add(time.Minute); tr.done.Load() < before+100; time.Sleep(50 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("a minute after PostgreSQL's restart, hardly any request is answered")
		}
	}
	tr.quiet.Store(false)
}

// await waits until the newest run meets a condition.
func (f *testFleet) await(what string, so func(runStatus) bool) (runID string) {
	f.t.Helper()
	var last runStatus
	for deadline := time.Now().Add(3 * time.Minute); time.Now().Before(deadline); time.Sleep(200 * time.Millisecond) {
		if runs := f.status().Runs; len(runs) > 0 {
			if last = runs[0]; so(last) {
				return last.ID
			}
		}
	}
	f.t.Fatalf("%s: not true after 3 minutes, but %+v", what, last)
	return ""
}
