package httpapi_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
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

	"narthex/activities"
	"narthex/httpapi"
	"narthex/httpapi/services"
	"narthex/internal/codec"
	"narthex/internal/config"
	"narthex/internal/dev/testenv"
	"narthex/internal/idempotency"
	"narthex/internal/registry"
	"narthex/internal/saga"
	"narthex/internal/searchattributes"
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

func TestMain(m *testing.M) { testenv.Main(m) }

// stack is Narthex as it runs, API and worker on one client, on a registry of its own. The PostgreSQL
// and the Temporal server are shared by the package's tests. On a cluster a second worker runs beside
// the first, and a second API answers every other request.
type stack struct {
	t           *testing.T
	url         string
	second      string        // URL of the second API; empty where there is one alone
	sent        *atomic.Int64 // requests
	registryURL string
	queue       string // Temporal's task queue
	temporal    client.Client
	registry    *pgxpool.Pool // the registry database, as its owner
	server      *pgxpool.Pool // the PostgreSQL server, as superuser
	keys        *secrets.Keys
	signer      tokens.Keys
	tokens      *tokens.Issuer
	faults      *faults
	clock       *clock                 // of the workers
	tenants     []*tenantserver.Server // as the workers see it
	log         *syncBuffer
	watch       *telemetry.Telemetry
}

const readLimit = 10 * time.Second // of a request

// stuckAfter is how long a compensation may fail before it is called stuck.
const stuckAfter = 10 * time.Second

// unhurried is for what only a loaded machine makes slow.
const unhurried = 5 * time.Minute

type stackOption func(*httpapi.Options)

func withWait(wait time.Duration) stackOption {
	return func(o *httpapi.Options) { o.SignupWait = wait }
}

func newStack(t *testing.T, options ...stackOption) *stack {
	t.Helper()
	return newStackOn(t, testenv.PostgresURL(t), options...)
}

// newStackOn makes the tenants' databases on a PostgreSQL server of the caller's.
func newStackOn(t *testing.T, serverURL string, options ...stackOption) *stack {
	t.Helper()
	ctx := t.Context()
	s := &stack{t: t, faults: newFaults(), clock: &clock{}, log: &syncBuffer{}, sent: &atomic.Int64{}}
	t.Cleanup(s.showErrors)
	logger := s.logger()
	s.watch = s.startWatch()

	home := testenv.PostgresURL(t)
	s.server = openPool(t, home)
	var serviceURL string
	s.registryURL, serviceURL = s.makeService(home)
	if serverURL != home {
		s.server = openPool(t, serverURL)
		_, serviceURL = s.makeService(serverURL)
	}
	if err := registry.Migrate(ctx, s.registryURL); err != nil {
		t.Fatalf("migrate the registry: %v", err)
	}
	s.registry = openPool(t, s.registryURL)
	s.keys = testenv.Keys(t)
	if err := s.openRegistry().CheckKeys(ctx); err != nil {
		t.Fatal(err)
	}
	s.temporal = dial(t, logger, s.keys, s.watch)
	s.queue = "signups-" + strings.ToLower(rand.Text())
	s.work(s.temporal, serviceURL)

	key, err := tokens.NewKey()
	if err != nil {
		t.Fatal(err)
	}
	if err := s.signer.UnmarshalText([]byte(key)); err != nil {
		t.Fatal(err)
	}
	s.tokens = tokens.New(s.signer, "narthex", "narthex-api", time.Now)
	s.url = s.serve(options...)
	if testenv.Cluster() {
		s.work(dial(t, logger, s.keys, s.watch), serviceURL)
		s.second = s.another(options...).url
	}
	return s
}

// work runs a worker of the stack.
func (s *stack) work(temporal client.Client, serviceURL string) {
	s.t.Helper()
	reg := s.openRegistry()
	installation, err := reg.Installation(s.t.Context())
	if err != nil {
		s.t.Fatal(err)
	}
	server, err := tenantserver.Open(s.t.Context(), serviceURL, installation, migrations.Tenant)
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(server.Close)
	s.tenants = append(s.tenants, server)
	w := worker.New(temporal, s.queue, worker.Options{Interceptors: []sdkinterceptor.WorkerInterceptor{s.faults}})
	(&workflows.Workflows{Server: server.Name(), Patience: stuckAfter, Pause: time.Millisecond}).Register(w)
	w.RegisterActivity(&activities.Activities{Registry: reg, Server: server, Keys: s.keys, Temporal: temporal,
		ReadyDatabases: readySize, Now: s.clock.now})
	if err := w.Start(); err != nil {
		s.t.Fatalf("start the worker: %v", err)
	}
	s.t.Cleanup(w.Stop)
}

// serve runs an API process of the stack, which shares nothing with others but the servers and the keys,
// and returns its URL.
func (s *stack) serve(options ...stackOption) (url string) {
	s.t.Helper()
	logger := s.logger()
	reg := s.openRegistry()
	router := tenantdb.NewRouter(reg, s.keys, 50, logger)
	s.t.Cleanup(router.Close)
	s.watch.Metrics.MustRegister(router)
	o := httpapi.Options{Temporal: s.temporal, Registry: reg, Router: router, Sessions: sessions.New(reg.Pool()),
		Throttle: throttle.New(reg.Pool()), Reservations: idempotency.New(reg.Pool(), s.keys), Keys: s.keys, Tokens: s.tokens,
		TaskQueue: s.queue, SignupWait: unhurried, AnswerLimit: unhurried, Log: logger, Now: time.Now, SpareLoopback: true,
		Services: services.Routes(), Metrics: s.watch.Metrics, Traces: s.watch.Traces}
	for _, option := range options {
		option(&o)
	}
	handler, err := httpapi.New(o)
	if err != nil {
		s.t.Fatal(err)
	}
	api := httptest.NewUnstartedServer(handler)
	api.Config.ReadTimeout = readLimit
	api.Start()
	s.t.Cleanup(api.Close)
	return api.URL
}

// another is the same stack seen through another API process.
func (s *stack) another(options ...stackOption) *stack {
	s.t.Helper()
	other := *s
	other.watch = s.startWatch()
	other.url, other.second = other.serve(options...), ""
	return &other
}

func (s *stack) logger() *slog.Logger {
	return telemetry.NewLogger(s.log, config.Log{LogLevel: slog.LevelDebug})
}

func (s *stack) startWatch() *telemetry.Telemetry {
	s.t.Helper()
	watch, err := telemetry.Start(s.t.Context(), s.logger())
	if err != nil {
		s.t.Fatal(err)
	}
	return watch
}

func (s *stack) openRegistry() *registry.Registry {
	s.t.Helper()
	reg, err := registry.Open(s.t.Context(), s.registryURL, s.keys)
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(reg.Close)
	return reg
}

// showErrors prints what was logged as an error, if the test has failed.
func (s *stack) showErrors() {
	if !s.t.Failed() {
		return
	}
	for line := range strings.Lines(s.log.String()) {
		if strings.Contains(line, `"level":"ERROR"`) {
			s.t.Logf("%.500s", strings.TrimSpace(line))
		}
	}
}

// makeService makes a role like the one that Narthex works as, and a registry database of its own.
func (s *stack) makeService(serverURL string) (registryURL, serviceURL string) {
	s.t.Helper()
	name := "service_" + strings.ToLower(rand.Text())
	s.exec(fmt.Sprintf(`CREATE ROLE %s LOGIN CREATEDB CREATEROLE PASSWORD 'service'`, name))
	s.exec(fmt.Sprintf(`CREATE DATABASE %[1]s OWNER %[1]s`, name))
	u, err := url.Parse(serverURL)
	if err != nil {
		s.t.Fatal(err)
	}
	u.User = url.UserPassword(name, "service")
	serviceURL = u.String()
	u.Path = "/" + name
	return u.String(), serviceURL
}

func (s *stack) exec(sql string) {
	s.t.Helper()
	if _, err := s.server.Exec(s.t.Context(), sql); err != nil {
		s.t.Fatalf("%s: %v", sql, err)
	}
}

func openPool(t *testing.T, url string) *pgxpool.Pool {
	t.Helper()
	pool, err := pgxpool.New(context.Background(), url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(pool.Close)
	return pool
}

func dial(t *testing.T, logger *slog.Logger, keys *secrets.Keys, watch *telemetry.Telemetry) client.Client {
	t.Helper()
	return dialAt(t, testenv.TemporalAddress(t), logger, keys, watch)
}

func dialAt(t *testing.T, address string, logger *slog.Logger, keys *secrets.Keys, watch *telemetry.Telemetry) client.Client {
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
	if err := searchattributes.Ensure(t.Context(), c, "default", saga.SearchAttributes()); err != nil {
		t.Fatalf("register search attributes: %v", err)
	}
	return c
}

// applicant returns a register request with an email of its own.
func applicant() map[string]any {
	return map[string]any{
		"churchName": "Grace Chapel",
		"email":      "pat+" + strings.ToLower(rand.Text()) + "@example.org",
		"password":   "correct horse battery",
		"firstName":  "Pat",
		"lastName":   "Muster",
	}
}

// answer is a response with its body read.
type answer struct {
	status int
	header http.Header
	body   []byte
}

func (a answer) json(t *testing.T) map[string]any {
	t.Helper()
	var fields map[string]any
	if err := json.Unmarshal(a.body, &fields); err != nil {
		t.Fatalf("the body is not JSON: %v\n%s", err, a.body)
	}
	return fields
}

func (s *stack) post(path string, body any) answer {
	s.t.Helper()
	return s.postAs("", path, body)
}

func (s *stack) postAs(token, path string, body any) answer {
	s.t.Helper()
	return s.send(http.MethodPost, path, token, jsonBody(s.t, body))
}

func jsonBody(t *testing.T, body any) io.Reader {
	t.Helper()
	content, err := json.Marshal(body)
	if err != nil {
		t.Fatal(err)
	}
	return bytes.NewReader(content)
}

func (s *stack) get(path, token string) answer {
	s.t.Helper()
	return s.send(http.MethodGet, path, token, nil)
}

func (s *stack) send(method, path, token string, body io.Reader) answer {
	s.t.Helper()
	return s.do(s.request(method, path, token, body))
}

func (s *stack) request(method, path, token string, body io.Reader) *http.Request {
	s.t.Helper()
	base := s.url
	if s.second != "" && s.sent.Add(1)%2 == 0 {
		base = s.second
	}
	request, err := http.NewRequest(method, base+path, body)
	if err != nil {
		s.t.Fatal(err)
	}
	if body != nil {
		request.Header.Set("Content-Type", "application/json")
	}
	if token != "" {
		request.Header.Set("Authorization", "Bearer "+token)
	}
	return request
}

// do sends a request, and holds it and its answer to the contract.
func (s *stack) do(request *http.Request) answer {
	s.t.Helper()
	var sent []byte
	if request.Body != nil && request.ContentLength > 0 {
		var err error
		if sent, err = io.ReadAll(request.Body); err != nil {
			s.t.Fatal(err)
		}
		request.Body = io.NopCloser(bytes.NewReader(sent))
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		s.t.Fatalf("%s %s: %v", request.Method, request.URL.Path, err)
	}
	defer response.Body.Close()
	content, err := io.ReadAll(response.Body)
	if err != nil {
		s.t.Fatal(err)
	}
	got := answer{response.StatusCode, response.Header, content}
	holdToContract(s.t, request, sent, got)
	return got
}

// register signs a church up and expects it to work.
func (s *stack) register(body map[string]any) map[string]any {
	s.t.Helper()
	got := s.post("/api/auth/register", body)
	if got.status != http.StatusCreated {
		s.t.Fatalf("register: status %d, want 201\n%s", got.status, got.body)
	}
	return got.json(s.t)
}

// wantProblem checks that an answer is a problem document of this status and type.
func wantProblem(t *testing.T, got answer, status int, kind string) map[string]any {
	t.Helper()
	if got.status != status {
		t.Fatalf("status %d, want %d\n%s", got.status, status, got.body)
	}
	if media := got.header.Get("Content-Type"); media != "application/problem+json" {
		t.Errorf("Content-Type %q, want application/problem+json", media)
	}
	problem := got.json(t)
	if problem["type"] != "/problems/"+kind || problem["status"] != float64(status) || problem["title"] == "" {
		t.Errorf("problem %s, want type /problems/%s, status %d and a title", got.body, kind, status)
	}
	return problem
}

// tenant connects to a church's database as its own role.
func (s *stack) tenant(tenantID string) *pgx.Conn {
	s.t.Helper()
	var sealed []byte
	if err := s.registry.QueryRow(s.t.Context(), `SELECT database_url FROM tenants WHERE id = $1`, tenantID).Scan(&sealed); err != nil {
		s.t.Fatalf("database URL of tenant %s: %v", tenantID, err)
	}
	url, err := s.keys.Open(sealed, secrets.Place{Table: "registry.tenants", Column: "database_url", Tenant: tenantID})
	if err != nil {
		s.t.Fatal(err)
	}
	conn, err := pgx.Connect(s.t.Context(), string(url))
	if err != nil {
		s.t.Fatalf("connect to tenant %s: %v", tenantID, err)
	}
	s.t.Cleanup(func() { conn.Close(context.Background()) })
	return conn
}

// row scans one row into what the pointers point to.
func row(t *testing.T, from interface {
	QueryRow(context.Context, string, ...any) pgx.Row
}, sql string, args []any, into ...any) {
	t.Helper()
	if err := from.QueryRow(t.Context(), sql, args...).Scan(into...); err != nil {
		t.Fatalf("%s: %v", strings.Join(strings.Fields(sql), " "), err)
	}
}

// eventually waits until ok, for something that nothing announces.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(unhurried); time.Now().Before(deadline); time.Sleep(50 * time.Millisecond) {
		if ok() {
			return
		}
	}
	t.Fatalf("%s: not so after %s", what, unhurried)
}

// syncBuffer keeps what is logged.
type syncBuffer struct {
	mu     sync.Mutex
	buffer bytes.Buffer
}

func (b *syncBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buffer.Write(p)
}

func (b *syncBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buffer.String()
}
