// Package teststack runs Narthex for tests, API and worker on one client. Tests can make its steps fail, and its traffic is
// checked against the contract.
package teststack

import (
	"bytes"
	"context"
	"crypto/rand"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"go.temporal.io/sdk/client"
	sdkinterceptor "go.temporal.io/sdk/interceptor"
	"go.temporal.io/sdk/log"
	"go.temporal.io/sdk/worker"
	"golang.org/x/crypto/bcrypt"

	"narthex/activities"
	"narthex/httpapi"
	"narthex/httpapi/services"
	"narthex/internal/codec"
	"narthex/internal/config"
	"narthex/internal/dev/searchattributes"
	"narthex/internal/dev/testenv"
	"narthex/internal/fleet/ledger"
	"narthex/internal/idempotency"
	"narthex/internal/password"
	"narthex/internal/registry"
	"narthex/internal/secrets"
	"narthex/internal/sessions"
	"narthex/internal/telemetry"
	"narthex/internal/tenantdb"
	"narthex/internal/tenantserver"
	"narthex/internal/throttle"
	"narthex/internal/tokens"
	"narthex/migrations"
	"narthex/workflows"
)

// ReadySize is how many databases a stack's workers keep ready. None are made unless a test says so.
const ReadySize = 3

// Stack is a running Narthex, API and worker on one client, with its own registry. The package's tests
// share the PostgreSQL server and the Temporal server. On a cluster there is also a second worker, and a
// second API answers every other request.
type Stack struct {
	T           *testing.T
	URL         string
	Second      string        // URL of the second API; empty if there is only one
	sent        *atomic.Int64 // requests
	RegistryURL string
	Queue       string // Temporal's task queue
	Temporal    client.Client
	Registry    *pgxpool.Pool // the registry database, as its owner
	Server      *pgxpool.Pool // the PostgreSQL server, as superuser
	Keys        *secrets.Keys
	Signer      tokens.Keys
	Tokens      *tokens.Issuer
	Faults      *Faults
	Clock       *Clock                 // of the workers
	Tenants     []*tenantserver.Server // as the workers see them
	Log         *syncBuffer
	Watch       *telemetry.Telemetry

	schema     fs.FS  // of new churches
	serviceURL string // of the PostgreSQL server, as Narthex's role
}

const readLimit = 10 * time.Second // of a request

// StuckAfter is how long a compensation may fail before it counts as stuck.
const StuckAfter = 10 * time.Second

// Unhurried is a limit for operations that are slow only on a loaded machine.
const Unhurried = 5 * time.Minute

// Option changes an API's options.
type Option func(*httpapi.Options)

// WithWait sets how long a register request waits for its signup.
func WithWait(wait time.Duration) Option {
	return func(o *httpapi.Options) { o.SignupWait = wait }
}

// WithRealPasswords hashes passwords at Narthex's real cost. Each hash takes 60 ms, and several times that with the race
// detector, so other stacks hash at the lowest cost.
func WithRealPasswords(o *httpapi.Options) { o.Passwords = realPasswords() }

var (
	realPasswords  = hasher(password.Cost)
	cheapPasswords = hasher(bcrypt.MinCost)
)

// hasher returns a function that returns the process's hasher for a cost.
func hasher(cost int) func() *password.Hasher {
	return sync.OnceValue(func() *password.Hasher {
		h, err := password.NewHasher(cost)
		if err != nil {
			panic(err)
		}
		return h
	})
}

// WithThrottle counts attempts from this machine too.
func WithThrottle(o *httpapi.Options) { o.SpareLoopback = false }

// New runs Narthex with its own registry.
func New(t *testing.T, options ...Option) *Stack {
	t.Helper()
	return NewOn(t, testenv.PostgresURL(t), options...)
}

// NewOn is like New, but creates the tenants' databases on the caller's PostgreSQL server.
func NewOn(t *testing.T, serverURL string, options ...Option) *Stack {
	t.Helper()
	s := prepare(t, serverURL, testenv.Keys(t))
	s.work(s.Temporal)

	s.Signer = testenv.TokenKeys(t)
	s.Tokens = tokens.New(s.Signer, "narthex", "narthex-api", time.Now)
	s.URL = s.serve(options...)
	if testenv.Cluster() {
		s.work(dial(t, s.Logger(), s.Keys, s.Watch))
		s.Second = s.Another(options...).URL
	}
	return s
}

// prepare makes what workers and APIs need.
func prepare(t *testing.T, serverURL string, keys *secrets.Keys) *Stack {
	t.Helper()
	ctx := t.Context()
	s := &Stack{T: t, Faults: newFaults(), Clock: &Clock{}, Log: &syncBuffer{}, sent: &atomic.Int64{}, Keys: keys, schema: migrations.Tenant}
	t.Cleanup(s.showErrors)
	s.Watch = s.StartWatch()

	home := testenv.PostgresURL(t)
	s.Server = testenv.OpenPool(t, home)
	s.RegistryURL, s.serviceURL = s.makeService(home)
	s.dropDatabasesLater()
	if serverURL != home {
		s.Server = testenv.OpenPool(t, serverURL)
		_, s.serviceURL = s.makeService(serverURL)
	}
	if err := registry.Migrate(ctx, s.RegistryURL); err != nil {
		t.Fatalf("migrate the registry: %v", err)
	}
	s.Registry = testenv.OpenPool(t, s.RegistryURL)
	if err := s.OpenRegistry().CheckKeys(ctx); err != nil {
		t.Fatal(err)
	}
	s.Temporal = dial(t, s.Logger(), s.Keys, s.Watch)
	s.Queue = "signups-" + strings.ToLower(rand.Text())
	return s
}

// work runs a worker of the stack.
func (s *Stack) work(temporal client.Client) {
	s.T.Helper()
	reg := s.OpenRegistry()
	server := s.openServer(reg, s.schema)
	s.Tenants = append(s.Tenants, server)
	w := worker.New(temporal, s.Queue, worker.Options{Interceptors: []sdkinterceptor.WorkerInterceptor{s.Faults}})
	(&workflows.Workflows{
		Server: server.Name(), Patience: StuckAfter, Pause: time.Millisecond, FleetPatience: fleetPatience, FleetPause: time.Second,
	}).Register(w)
	w.RegisterActivity(&activities.Activities{Registry: reg, Server: server, Keys: s.Keys, Temporal: temporal,
		Ledger: ledger.New(reg.Pool()), ReadyDatabases: ReadySize, Now: s.Clock.now})
	if err := w.Start(); err != nil {
		s.T.Fatalf("start the worker: %v", err)
	}
	s.T.Cleanup(w.Stop)
}

// openServer opens the server of tenants' databases as a release with this schema does.
func (s *Stack) openServer(reg *registry.Registry, schema fs.FS) *tenantserver.Server {
	s.T.Helper()
	installation, err := reg.Installation(s.T.Context())
	if err != nil {
		s.T.Fatal(err)
	}
	server, err := tenantserver.Open(s.T.Context(), s.serviceURL, installation, schema)
	if err != nil {
		s.T.Fatal(err)
	}
	s.T.Cleanup(server.Close)
	return server
}

// serve runs an API of the stack and returns its URL. It shares only the servers and the keys with other
// APIs.
func (s *Stack) serve(options ...Option) (url string) {
	s.T.Helper()
	logger := s.Logger()
	reg := s.OpenRegistry()
	router := tenantdb.NewRouter(reg, s.Keys, 50, logger)
	s.T.Cleanup(router.Close)
	s.Watch.Metrics.MustRegister(router)
	o := httpapi.Options{
		Temporal: s.Temporal, TaskQueue: s.Queue, Registry: reg, Router: router, Sessions: sessions.New(reg.Pool()),
		Throttle: throttle.New(reg.Pool()), Reservations: idempotency.New(reg.Pool(), s.Keys),
		Keys: s.Keys, Tokens: s.Tokens, Passwords: cheapPasswords(),
		SignupWait: Unhurried, AnswerLimit: Unhurried, Log: logger, Now: time.Now, SpareLoopback: true,
		Services: services.Routes(), Metrics: s.Watch.Metrics, Traces: s.Watch.Traces,
	}
	for _, option := range options {
		option(&o)
	}
	handler, err := httpapi.New(o)
	if err != nil {
		s.T.Fatal(err)
	}
	api := httptest.NewUnstartedServer(handler)
	api.Config.ReadTimeout = readLimit
	api.Start()
	s.T.Cleanup(api.Close)
	return api.URL
}

// Another returns the same stack as seen through another API.
func (s *Stack) Another(options ...Option) *Stack {
	s.T.Helper()
	other := *s
	other.Watch = s.StartWatch()
	other.URL, other.Second = other.serve(options...), ""
	return &other
}

// Logger writes to the stack's log.
func (s *Stack) Logger() *slog.Logger {
	return telemetry.NewLogger(s.Log, config.Log{LogLevel: slog.LevelDebug})
}

// StartWatch starts a process's telemetry.
func (s *Stack) StartWatch() *telemetry.Telemetry {
	s.T.Helper()
	watch, err := telemetry.Start(s.T.Context(), s.Logger())
	if err != nil {
		s.T.Fatal(err)
	}
	return watch
}

// OpenRegistry opens the registry as Narthex does.
func (s *Stack) OpenRegistry() *registry.Registry {
	s.T.Helper()
	reg, err := registry.Open(s.T.Context(), s.RegistryURL, s.Keys)
	if err != nil {
		s.T.Fatal(err)
	}
	s.T.Cleanup(reg.Close)
	return reg
}

// showErrors prints the logged errors if the test has failed.
func (s *Stack) showErrors() {
	if !s.T.Failed() {
		return
	}
	for line := range strings.Lines(s.Log.String()) {
		if strings.Contains(line, `"level":"ERROR"`) {
			s.T.Logf("%.500s", strings.TrimSpace(line))
		}
	}
}

// makeService creates a role like the one that Narthex works as, with its own registry database.
func (s *Stack) makeService(serverURL string) (registryURL, serviceURL string) {
	s.T.Helper()
	name := "service_" + strings.ToLower(rand.Text())
	s.Exec(fmt.Sprintf(`CREATE ROLE %s LOGIN CREATEDB CREATEROLE PASSWORD 'service'`, name))
	s.Exec(fmt.Sprintf(`CREATE DATABASE %[1]s OWNER %[1]s`, name))
	u, err := url.Parse(serverURL)
	if err != nil {
		s.T.Fatal(err)
	}
	u.User = url.UserPassword(name, "service")
	serviceURL = u.String()
	u.Path = "/" + name
	return u.String(), serviceURL
}

// dropDatabasesLater drops the registry and the tenants' databases when the test ends: everything that is owned by the
// service role and the roles that it has created. A caller's own server is removed with the test anyway.
func (s *Stack) dropDatabasesLater() {
	s.T.Helper()
	registryURL, err := url.Parse(s.RegistryURL)
	if err != nil {
		s.T.Fatal(err)
	}
	server := s.Server
	s.T.Cleanup(func() { dropDatabasesOf(s.T, server, registryURL.User.Username()) })
}

func dropDatabasesOf(t *testing.T, server *pgxpool.Pool, role string) {
	const databases = `
		SELECT datname::text FROM pg_database d JOIN pg_roles r ON r.oid = d.datdba
		WHERE r.rolname = $1 OR pg_has_role($1, r.oid, 'MEMBER') AND NOT r.rolsuper`
	rows, _ := server.Query(context.Background(), databases, role)
	names, err := pgx.CollectRows(rows, pgx.RowTo[string])
	for _, name := range names {
		if err == nil {
			_, err = server.Exec(context.Background(), `ALTER DATABASE `+name+` IS_TEMPLATE false`)
		}
		if err == nil {
			_, err = server.Exec(context.Background(), `DROP DATABASE `+name+` WITH (FORCE)`)
		}
	}
	if err != nil {
		t.Errorf("drop the stack's databases: %v", err)
	}
}

// Exec runs SQL on the PostgreSQL server, as superuser.
func (s *Stack) Exec(sql string) {
	s.T.Helper()
	if _, err := s.Server.Exec(s.T.Context(), sql); err != nil {
		s.T.Fatalf("%s: %v", sql, err)
	}
}

func dial(t *testing.T, logger *slog.Logger, keys *secrets.Keys, watch *telemetry.Telemetry) client.Client {
	t.Helper()
	return DialAt(t, testenv.TemporalAddress(t), logger, keys, watch)
}

// DialAt connects to Temporal at an address, as Narthex does.
func DialAt(t *testing.T, address string, logger *slog.Logger, keys *secrets.Keys, watch *telemetry.Telemetry) client.Client {
	t.Helper()
	options := client.Options{HostPort: address, Logger: log.NewStructuredLogger(logger), Identity: "narthex"}
	codec.Seal(&options, keys)
	if err := watch.Instrument(&options); err != nil {
		t.Fatal(err)
	}
	c, err := client.Dial(options)
	if err != nil {
		t.Fatalf("dial Temporal: %v", err)
	}
	t.Cleanup(c.Close)
	if err := searchattributes.Ensure(t.Context(), c, "default"); err != nil {
		t.Fatalf("register search attributes: %v", err)
	}
	return c
}

// Eventually waits until ok returns true, for events that nothing announces.
func Eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(Unhurried); time.Now().Before(deadline); time.Sleep(50 * time.Millisecond) {
		if ok() {
			return
		}
	}
	t.Fatalf("%s: not true after %s", what, Unhurried)
}

// syncBuffer keeps what is logged.
type syncBuffer struct {
	mu     sync.Mutex
	buffer bytes.Buffer
	also   io.Writer // is written to, if not nil
}

func (b *syncBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.also != nil {
		_, _ = b.also.Write(p)
	}
	return b.buffer.Write(p)
}

func (b *syncBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buffer.String()
}
