package systemtest

import (
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/getkin/kin-openapi/openapi3"

	"narthex/httpapi"
	"narthex/internal/dev/testenv"
	"narthex/internal/dev/teststack"
	"narthex/internal/runs"
	"narthex/internal/signup"
)

// hangable forwards connections to a server until it hangs. Then it accepts connections, but answers nothing.
type hangable struct {
	address string
	mu      sync.Mutex
	hung    bool
	open    []net.Conn
}

func newHangable(t *testing.T, server string) *hangable {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	h := &hangable{address: listener.Addr().String()}
	t.Cleanup(func() {
		listener.Close()
		h.recover()
	})
	go func() {
		for {
			client, err := listener.Accept()
			if err != nil {
				return
			}
			go h.forward(client, server)
		}
	}()
	return h
}

func (h *hangable) forward(client net.Conn, server string) {
	upstream, err := net.Dial("tcp", server)
	if err != nil {
		client.Close()
		return
	}
	h.mu.Lock()
	h.open = append(h.open, client, upstream)
	h.mu.Unlock()
	go h.copy(upstream, client)
	h.copy(client, upstream)
}

func (h *hangable) copy(to, from net.Conn) {
	buffer := make([]byte, 32<<10)
	for {
		n, err := from.Read(buffer)
		h.mu.Lock()
		hung := h.hung
		h.mu.Unlock()
		if hung {
			continueReading(from)
			return
		}
		if err == nil {
			_, err = to.Write(buffer[:n])
		}
		if err != nil {
			to.Close()
			return
		}
	}
}

func continueReading(from net.Conn) { _, _ = io.Copy(io.Discard, from) }

func (h *hangable) hang() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.hung = true
}

// recover closes the connections that hung, and forwards again.
func (h *hangable) recover() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.hung = false
	for _, conn := range h.open {
		conn.Close()
	}
	h.open = nil
}

// behind returns the URL with the proxy's address in place of the server's.
func (h *hangable) behind(t *testing.T, serverURL string) string {
	t.Helper()
	u, err := url.Parse(serverURL)
	if err != nil {
		t.Fatal(err)
	}
	u.Host = h.address
	return u.String()
}

// example returns an example of a body, from the contract.
func example(of *openapi3.MediaType) any {
	if of.Example != nil {
		return of.Example
	}
	schema := of.Schema.Value
	if schema.Example != nil {
		return schema.Example
	}
	body := map[string]any{}
	for name, property := range schema.Properties {
		body[name] = property.Value.Example
	}
	return body
}

// exampleRequest returns a request that an operation of the contract accepts.
func exampleRequest(s *teststack.Stack, token, method, path string, item *openapi3.PathItem) *http.Request {
	s.T.Helper()
	operation := item.GetOperation(method)
	header := http.Header{}
	for _, ref := range append(item.Parameters, operation.Parameters...) {
		parameter, _ := ref.Value.Example.(string)
		switch ref.Value.In {
		case openapi3.ParameterInPath:
			path = strings.ReplaceAll(path, "{"+ref.Value.Name+"}", parameter)
		case openapi3.ParameterInHeader:
			header.Set(ref.Value.Name, parameter)
		}
	}
	var body io.Reader
	if operation.RequestBody != nil {
		for media, content := range operation.RequestBody.Value.Content {
			header.Set("Content-Type", media)
			sent := example(content)
			text, isText := sent.(string)
			if !isText {
				encoded, err := json.Marshal(sent)
				if err != nil {
					s.T.Fatal(err)
				}
				text = string(encoded)
			}
			body = strings.NewReader(text)
		}
	}
	request := s.Request(method, path, token, body)
	maps.Copy(request.Header, header)
	return request
}

// When PostgreSQL and Temporal accept connections but never answer, each route that needs one of them answers 503 within
// its limit.
func TestEveryRouteHasALimit(t *testing.T) {
	t.Parallel()
	postgres := newHangable(t, hostOf(t, testenv.PostgresURL(t)))
	temporal := newHangable(t, testenv.TemporalAddress(t))
	s := teststack.NewOn(t, postgres.behind(t, testenv.PostgresURL(t)))
	quick := func(o *httpapi.Options) {
		o.AnswerLimit, o.SignupWait, o.SpareLoopback = time.Second, time.Second, false
	}
	hanging := *s
	hanging.RegistryURL = postgres.behind(t, s.RegistryURL)
	hanging.Temporal = teststack.DialAt(t, temporal.address, slog.New(slog.DiscardHandler), s.Keys, s.StartWatch())
	known, unknown := hanging.Another(quick), hanging.Another(quick) // one process that has a pool for the church, and one that hasn't
	session := s.Register(teststack.Applicant())
	token := session["accessToken"].(string)
	teststack.Eventually(t, "known answers before it hangs", func() bool { // within a second, which a loaded machine may not manage
		return known.Get("/api/auth/me", token).Status == http.StatusOK
	})
	publicID, err := signup.PublicID(s.Keys, runs.Run{WorkflowID: "signup-of-nobody", RunID: "01m8688yqk2ydy69mj7h6fv3y7"})
	if err != nil {
		t.Fatal(err)
	}
	postgres.hang()
	temporal.hang()
	defer postgres.recover()
	defer temporal.recover()

	document := teststack.Contract(t)
	asked := 0
	var wg sync.WaitGroup
	for path, item := range document.Paths.Map() {
		path = strings.ReplaceAll(path, "{signupId}", publicID)
		for method, operation := range item.Operations() {
			mayFail := operation.Responses.Value("503") != nil
			for process, api := range map[string]*teststack.Stack{"known": known, "unknown": unknown} {
				asked++
				request := exampleRequest(api, token, method, path, item)
				wg.Go(func() { wantAnswer(t, request, mayFail, "the church's pool is "+process) })
			}
		}
	}
	wg.Wait()
	if asked < 50 {
		t.Errorf("%d requests, want two per route: the test looks in the wrong places", asked)
	}
}

// wantAnswer expects 503 with Retry-After, or success if a route needs no server, and either of them soon.
func wantAnswer(t *testing.T, request *http.Request, mayFail bool, when string) {
	client := http.Client{Timeout: time.Minute} // each limit is a second, but the machine may be busy
	response, err := client.Do(request)
	if err != nil {
		t.Errorf("%s %s, %s: %v", request.Method, request.URL.Path, when, err)
		return
	}
	defer response.Body.Close()
	body, _ := io.ReadAll(response.Body)
	want := http.StatusOK
	if mayFail {
		want = http.StatusServiceUnavailable
	}
	if response.StatusCode != want || mayFail && response.Header.Get("Retry-After") == "" {
		t.Errorf("%s %s, %s: status %d, want %d, with Retry-After if 503\n%s",
			request.Method, request.URL.Path, when, response.StatusCode, want, body)
	}
}

func hostOf(t *testing.T, serverURL string) string {
	t.Helper()
	u, err := url.Parse(serverURL)
	if err != nil {
		t.Fatal(err)
	}
	return u.Host
}

// The registry may stop answering at any point of a signup.
func TestRegisterIsAnsweredWhereverTheRegistryHangs(t *testing.T) {
	t.Parallel()
	for _, locked := range []struct{ name, lock string }{
		{"throttle", `LOCK TABLE throttles`},
		{"look up the key", `LOCK TABLE idempotency_keys`},
		{"reserve the key", `LOCK TABLE idempotency_keys IN SHARE MODE`},
		{"look up the email", `LOCK TABLE admin_email_index`},
		{"open the session", `LOCK TABLE sessions`},
	} {
		t.Run(locked.name, func(t *testing.T) {
			t.Parallel()
			s := teststack.New(t)
			api := s.Another(teststack.WithThrottle, func(o *httpapi.Options) { o.AnswerLimit = time.Second })
			lock, err := s.Registry.Begin(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			defer lock.Rollback(context.Background())
			if _, err := lock.Exec(t.Context(), locked.lock); err != nil {
				t.Fatal(err)
			}
			request := api.Request(http.MethodPost, "/api/auth/register", "", teststack.JSONBody(t, teststack.Applicant()))
			request.Header.Set("Idempotency-Key", "key")
			wantAnswer(t, request, true, locked.name)
		})
	}
}

// If the registry hangs, requests are answered, and no signup starts later.
func TestHungRegistryIsUnavailable(t *testing.T) {
	t.Parallel()
	s := teststack.New(t, func(o *httpapi.Options) { o.AnswerLimit = time.Second })
	body := teststack.Applicant()
	lock, err := s.Registry.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer lock.Rollback(context.Background())
	if _, err := lock.Exec(t.Context(), `LOCK TABLE admin_email_index`); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{"/api/auth/register", "/api/auth/login"} {
		credentials := body
		if path == "/api/auth/login" {
			credentials = map[string]any{"email": body["email"], "password": body["password"]}
		}
		got := s.Post(path, credentials)
		teststack.WantProblem(t, got, http.StatusServiceUnavailable, "unavailable")
		if got.Header.Get("Retry-After") == "" {
			t.Errorf("%s: no Retry-After", path)
		}
	}
	if err := lock.Rollback(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := s.Faults.TenantIDs(); len(got) != 0 {
		t.Errorf("%d signups ran, want none", len(got))
	}
}
