package httpapi_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"narthex/internal/dev/teststack"
)

// fieldsOf returns the names of a problem's field errors, sorted.
func fieldsOf(problem map[string]any) (names []string) {
	errors, _ := problem["errors"].([]any)
	for _, one := range errors {
		names = append(names, one.(map[string]any)["field"].(string))
	}
	slices.Sort(names)
	return names
}

func TestRegisterRefusesInvalidFields(t *testing.T) {
	t.Parallel()
	s := teststack.New(t)
	for name, c := range map[string]struct {
		change map[string]any
		want   []string
	}{
		"nothing": {
			map[string]any{"churchName": nil, "email": nil, "password": nil, "firstName": nil, "lastName": nil},
			[]string{"churchName", "email", "firstName", "lastName", "password"},
		},
		"blank name":             {map[string]any{"churchName": " \t "}, []string{"churchName"}},
		"name of 201":            {map[string]any{"firstName": strings.Repeat("ß", 201)}, []string{"firstName"}},
		"NUL in a name":          {map[string]any{"lastName": "a\x00b"}, []string{"lastName"}},
		"control character":      {map[string]any{"churchName": "a\u0085b"}, []string{"churchName"}},
		"new line in a name":     {map[string]any{"churchName": "a\nb"}, []string{"churchName"}},
		"invisible character":    {map[string]any{"churchName": "Grace\u200b Chapel"}, []string{"churchName"}},
		"changed text direction": {map[string]any{"lastName": "Muster\u202e"}, []string{"lastName"}},
		"line separator":         {map[string]any{"lastName": "a\u2028b"}, []string{"lastName"}},
		"noncharacter":           {map[string]any{"lastName": "a\ufdd0b"}, []string{"lastName"}},
		"nothing visible":        {map[string]any{"firstName": "\u200d", "lastName": "\u3164"}, []string{"firstName", "lastName"}},
		"invisible in an email":  {map[string]any{"email": "pa\u00adt@example.org"}, []string{"email"}},
		"email without an at":    {map[string]any{"email": "pat.example.org"}, []string{"email"}},
		"email with a name":      {map[string]any{"email": "Pat <pat@example.org>"}, []string{"email"}},
		"two emails":             {map[string]any{"email": "a@example.org,b@example.org"}, []string{"email"}},
		"email with a space":     {map[string]any{"email": "a b@example.org"}, []string{"email"}},
		"very long email":        {map[string]any{"email": strings.Repeat("a", 250) + "@example.org"}, []string{"email"}},
		"password of 7 bytes":    {map[string]any{"password": "1234567"}, []string{"password"}},
		"password of 73 bytes":   {map[string]any{"password": strings.Repeat("x", 73)}, []string{"password"}},
		"password of 37 umlauts": {map[string]any{"password": strings.Repeat("ü", 37)}, []string{"password"}},
		"NUL in the password":    {map[string]any{"password": "12345678\x00"}, []string{"password"}},
		"unknown field":          {map[string]any{"role": "PRIMARY"}, []string{"role"}},
		"field in capitals":      {map[string]any{"EMAIL": "x@example.org"}, []string{"EMAIL"}},
		"number for a name":      {map[string]any{"firstName": 7}, []string{"firstName"}},
		"object for an email":    {map[string]any{"email": map[string]any{}}, []string{"email"}},
	} {
		t.Run(name, func(t *testing.T) {
			body := teststack.Applicant()
			maps.Copy(body, c.change)
			problem := teststack.WantProblem(t, s.Post("/api/auth/register", body), http.StatusUnprocessableEntity, "invalid-fields")
			if got := fieldsOf(problem); !slices.Equal(got, c.want) {
				t.Errorf("errors in fields %v, want %v", got, c.want)
			}
		})
	}
	if got := s.Faults.TenantIDs(); len(got) != 0 {
		t.Errorf("%d signups ran, want none", len(got))
	}
}

func TestRegisterTakesTheEdges(t *testing.T) {
	t.Parallel()
	s := teststack.New(t)
	email := teststack.Applicant()["email"].(string)
	for name, change := range map[string]map[string]any{
		"names of 200":          {"churchName": strings.Repeat("ß", 200), "firstName": "X", "lastName": strings.Repeat("字", 200)},
		"password of 8 bytes":   {"password": "12345678"},
		"password of 72 bytes":  {"password": strings.Repeat("ü", 36)},
		"spaces around":         {"churchName": "  St. Mary's  ", "email": "  PAT." + strings.ToUpper(email) + "\n"},
		"zero-width non-joiner": {"churchName": "کلیسای می\u200cخواهم", "firstName": "ක්\u200dෂ"},
		"quotes and apostrophe": {"churchName": `O'Brien's "Chapel"; DROP TABLE churches; --`, "lastName": "D'Arcy"},
	} {
		t.Run(name, func(t *testing.T) {
			body := teststack.Applicant()
			maps.Copy(body, change)
			session := s.Register(body)
			church := strings.TrimSpace(body["churchName"].(string))
			email := strings.ToLower(strings.TrimSpace(body["email"].(string)))
			gotChurch, gotEmail := teststack.Field(session, "church", "name"), teststack.Field(session, "admin", "email")
			if gotChurch != church || gotEmail != email {
				t.Errorf("answered church %q and email %q, want %q and %q", gotChurch, gotEmail, church, email)
			}
			if got := s.Post("/api/auth/login", map[string]any{"email": email, "password": body["password"]}); got.Status != http.StatusOK {
				t.Errorf("login: status %d, want 200\n%s", got.Status, got.Body)
			}
		})
	}
}

func TestRegisterRefusesMalformedBodies(t *testing.T) {
	t.Parallel()
	s := teststack.New(t)
	good, err := json.Marshal(teststack.Applicant())
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		body   string
		status int
		kind   string
	}{
		"empty":                 {"", 400, "malformed-body"},
		"not JSON":              {"churchName=Grace", 400, "malformed-body"},
		"an array":              {"[" + string(good) + "]", 400, "malformed-body"},
		"null":                  {"null", 400, "malformed-body"},
		"truncated":             {string(good[:len(good)-2]), 400, "malformed-body"},
		"two objects":           {string(good) + string(good), 400, "malformed-body"},
		"trailing text":         {string(good) + "x", 400, "malformed-body"},
		"not UTF-8":             {strings.Replace(string(good), "Grace", "Gr\xffce", 1), 400, "malformed-body"},
		"a name twice":          {strings.Replace(string(good), "{", `{"email":"other@example.org",`, 1), 422, "invalid-fields"},
		"a lone surrogate":      {strings.Replace(string(good), "Grace", `Gr\ud800ce`, 1), 422, "invalid-fields"},
		"over 64 KiB":           {strings.Replace(string(good), "Grace", strings.Repeat("G", 64<<10), 1), 413, "body-too-large"},
		"deeply nested":         {strings.Repeat(`{"a":`, 20000), 413, "body-too-large"},
		"deeply nested objects": {strings.Repeat(`[`, 60000), 400, "malformed-body"},
	} {
		t.Run(name, func(t *testing.T) {
			teststack.WantProblem(t, s.Send(http.MethodPost, "/api/auth/register", "", strings.NewReader(c.body)), c.status, c.kind)
		})
	}
	for _, c := range []struct{ header, value, kind string }{
		{"Content-Type", "text/plain", "unsupported-media-type"}, {"Content-Encoding", "gzip", "unsupported-encoding"},
	} {
		request := s.Request(http.MethodPost, "/api/auth/register", "", bytes.NewReader(good))
		request.Header.Set(c.header, c.value)
		teststack.WantProblem(t, s.Do(request), http.StatusUnsupportedMediaType, c.kind)
	}
}

func TestUnknownFieldsAreListedUpToALimit(t *testing.T) {
	t.Parallel()
	s := teststack.New(t)
	body := map[string]any{}
	for i := range 1000 {
		body[fmt.Sprintf("f%d", i)] = i
	}
	problem := teststack.WantProblem(t, s.Post("/api/auth/register", body), http.StatusUnprocessableEntity, "invalid-fields")
	if got := len(fieldsOf(problem)); got != 20 {
		t.Errorf("%d fields are named, want 20", got)
	}
}

// A body that arrives too slowly is not waited for, and one that is announced as too large is not read.
func TestSlowAndOversizedBodiesAreRefused(t *testing.T) {
	t.Parallel()
	s := teststack.New(t)
	for name, c := range map[string]struct {
		length       int
		status, kind string
	}{
		"slow":  {100, "408 Request Timeout", "body-too-slow"},
		"large": {1 << 30, "413 Request Entity Too Large", "body-too-large"},
	} {
		conn, err := net.Dial("tcp", strings.TrimPrefix(s.URL, "http://"))
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		fmt.Fprintf(conn, "POST /api/auth/login HTTP/1.1\r\nHost: localhost\r\n"+
			"Content-Type: application/json\r\nContent-Length: %d\r\n\r\n{", c.length)
		got, err := io.ReadAll(conn) // the server closes the connection
		if err != nil {
			t.Fatal(err)
		}
		if !strings.HasPrefix(string(got), "HTTP/1.1 "+c.status) || !strings.Contains(string(got), "/problems/"+c.kind) {
			t.Errorf("%s: answered\n%s\nwant %s and /problems/%s", name, got, c.status, c.kind)
		}
	}
}

func TestUnknownRoutesAndMethodsAreProblems(t *testing.T) {
	t.Parallel()
	s := teststack.New(t)
	teststack.WantProblem(t, s.Get("/api/nowhere", ""), http.StatusNotFound, "not-found")
	teststack.WantProblem(t, s.Get("/healthz/", ""), http.StatusNotFound, "not-found")
	teststack.WantProblem(t, s.Get("/api/auth/register", ""), http.StatusMethodNotAllowed, "method-not-allowed")
	teststack.WantProblem(t, s.Get("/api/signups/guess", ""), http.StatusNotFound, "signup-not-found")
}

func TestSecurityHeaders(t *testing.T) {
	t.Parallel()
	s := teststack.New(t)
	for _, path := range []string{"/healthz", "/api/auth/me", "/nowhere"} {
		got := s.Get(path, "")
		for name, want := range map[string]string{
			"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff", "X-Frame-Options": "DENY", "Referrer-Policy": "no-referrer",
			"Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'", "Access-Control-Allow-Origin": "",
		} {
			if value := got.Header.Get(name); value != want {
				t.Errorf("%s: %s: %q, want %q", path, name, value, want)
			}
		}
	}
}

func TestHealthAndReadiness(t *testing.T) {
	t.Parallel()
	s := teststack.New(t)
	for _, path := range []string{"/healthz", "/readyz"} {
		for _, method := range []string{http.MethodGet, http.MethodHead} {
			if got := s.Send(method, path, "", nil); got.Status != http.StatusOK {
				t.Errorf("%s %s: status %d, want 200\n%s", method, path, got.Status, got.Body)
			}
		}
	}
	if _, err := s.Registry.Exec(t.Context(), `DROP TABLE narthex_migrations.versions`); err != nil {
		t.Fatal(err)
	}
	problem := teststack.WantProblem(t, s.Get("/readyz", ""), http.StatusServiceUnavailable, "not-ready")
	if problem["detail"] != "The registry's schema is not the newest." {
		t.Errorf("readyz says %q about a registry that was not migrated", problem["detail"])
	}
}

// TestLoginRevealsNothing compares the answers to an unknown email and to a wrong password.
func TestLoginRevealsNothing(t *testing.T) {
	t.Parallel()
	s := teststack.New(t, teststack.WithRealPasswords)
	body := teststack.Applicant()
	s.Register(body)
	began := time.Now()
	wrong := s.Post("/api/auth/login", map[string]any{"email": body["email"], "password": "not the password"})
	between := time.Now()
	unknown := s.Post("/api/auth/login", map[string]any{"email": "nobody@example.org", "password": "not the password"})
	ended := time.Now()
	teststack.WantProblem(t, wrong, http.StatusUnauthorized, "invalid-credentials")
	teststack.WantProblem(t, unknown, http.StatusUnauthorized, "invalid-credentials")
	if !bytes.Equal(wrong.Body, unknown.Body) {
		t.Errorf("the answers differ:\n%s\n%s", wrong.Body, unknown.Body)
	}
	// Both answers take the same time, so that the time reveals nothing.
	const floor = 400 * time.Millisecond
	if a, b := between.Sub(began), ended.Sub(between); a < floor || b < floor {
		t.Errorf("refused after %s and %s, want both after at least %s", a, b, floor)
	}
}

// bcrypt reads 72 bytes: what follows them must not be ignored.
func TestLoginReadsTheWholePassword(t *testing.T) {
	t.Parallel()
	s := teststack.New(t)
	body := teststack.Applicant()
	body["password"] = strings.Repeat("x", 72)
	s.Register(body)
	teststack.WantProblem(t, s.Post("/api/auth/login", map[string]any{"email": body["email"], "password": strings.Repeat("x", 73)}),
		http.StatusUnauthorized, "invalid-credentials")
}

func TestEmailsThatLookTheSameAreTheSame(t *testing.T) {
	t.Parallel()
	s := teststack.New(t)
	body := teststack.Applicant()
	name := strings.TrimSuffix(body["email"].(string), "@example.org")
	body["email"] = name + "e\u0301@example.org"
	s.Register(body)
	body["email"] = name + "\u00e9@example.org"
	teststack.WantProblem(t, s.Post("/api/auth/register", body), http.StatusConflict, "email-taken")
}

func TestMeRefusesWithoutAToken(t *testing.T) {
	t.Parallel()
	s := teststack.New(t)
	session := s.Register(teststack.Applicant())
	for name, token := range map[string]string{
		"none": "", "garbage": "garbage", "the refresh token": session["refreshToken"].(string),
		"an altered token": session["accessToken"].(string) + "x",
	} {
		got := s.Get("/api/auth/me", token)
		teststack.WantProblem(t, got, http.StatusUnauthorized, "invalid-token")
		if got.Header.Get("WWW-Authenticate") == "" {
			t.Errorf("%s: no WWW-Authenticate header", name)
		}
	}
}
