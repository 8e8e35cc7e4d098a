package teststack

import (
	"bytes"
	"crypto/rand"
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
)

// RegisterUnder posts a register request with an Idempotency-Key.
func (s *Stack) RegisterUnder(key string, body map[string]any) Answer {
	s.T.Helper()
	request := s.Request(http.MethodPost, "/api/auth/register", "", JSONBody(s.T, body))
	request.Header.Set("Idempotency-Key", key)
	return s.Do(request)
}

// Field returns a field of an object in an answer's body.
func Field(session map[string]any, object, name string) string {
	return session[object].(map[string]any)[name].(string)
}

// Applicant returns a register request with a unique email.
func Applicant() map[string]any {
	return map[string]any{
		"churchName": "Grace Chapel",
		"email":      "pat+" + strings.ToLower(rand.Text()) + "@example.org",
		"password":   "correct horse battery",
		"firstName":  "Pat",
		"lastName":   "Muster",
	}
}

// Answer is a response with its body read.
type Answer struct {
	Status int
	Header http.Header
	Body   []byte
}

// JSON decodes the body.
func (a Answer) JSON(t *testing.T) map[string]any {
	t.Helper()
	var fields map[string]any
	if err := json.Unmarshal(a.Body, &fields); err != nil {
		t.Fatalf("the body is not JSON: %v\n%s", err, a.Body)
	}
	return fields
}

// Post posts a JSON body.
func (s *Stack) Post(path string, body any) Answer {
	s.T.Helper()
	return s.PostAs("", path, body)
}

// PostAs posts a JSON body as the bearer of a token.
func (s *Stack) PostAs(token, path string, body any) Answer {
	s.T.Helper()
	return s.Send(http.MethodPost, path, token, JSONBody(s.T, body))
}

// JSONBody is a request's body.
func JSONBody(t *testing.T, body any) io.Reader {
	t.Helper()
	content, err := json.Marshal(body)
	if err != nil {
		t.Fatal(err)
	}
	return bytes.NewReader(content)
}

// Get sends a GET request as the bearer of a token, or without one.
func (s *Stack) Get(path, token string) Answer {
	s.T.Helper()
	return s.Send(http.MethodGet, path, token, nil)
}

// Send sends a body as it is.
func (s *Stack) Send(method, path, token string, body io.Reader) Answer {
	s.T.Helper()
	return s.Do(s.Request(method, path, token, body))
}

// Request makes a request. On a cluster, every other request goes to the second API.
func (s *Stack) Request(method, path, token string, body io.Reader) *http.Request {
	s.T.Helper()
	base := s.URL
	if s.Second != "" && s.sent.Add(1)%2 == 0 {
		base = s.Second
	}
	request, err := http.NewRequest(method, base+path, body)
	if err != nil {
		s.T.Fatal(err)
	}
	if body != nil {
		request.Header.Set("Content-Type", "application/json")
	}
	if token != "" {
		request.Header.Set("Authorization", "Bearer "+token)
	}
	return request
}

// Do sends a request, and checks it and its answer against the contract.
func (s *Stack) Do(request *http.Request) Answer {
	s.T.Helper()
	var sent []byte
	if request.Body != nil && request.ContentLength > 0 {
		var err error
		sent, err = io.ReadAll(request.Body)
		if err != nil {
			s.T.Fatal(err)
		}
		request.Body = io.NopCloser(bytes.NewReader(sent))
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		s.T.Fatalf("%s %s: %v", request.Method, request.URL.Path, err)
	}
	defer response.Body.Close()
	content, err := io.ReadAll(response.Body)
	if err != nil {
		s.T.Fatal(err)
	}
	got := Answer{Status: response.StatusCode, Header: response.Header, Body: content}
	holdToContract(s.T, request, sent, got)
	return got
}

// Register signs a church up and expects it to work.
func (s *Stack) Register(body map[string]any) map[string]any {
	s.T.Helper()
	got := s.Post("/api/auth/register", body)
	if got.Status != http.StatusCreated {
		s.T.Fatalf("register: status %d, want 201\n%s", got.Status, got.Body)
	}
	return got.JSON(s.T)
}

// WantProblem checks that an answer is a problem document of this status and type.
func WantProblem(t *testing.T, got Answer, status int, kind string) map[string]any {
	t.Helper()
	if got.Status != status {
		t.Fatalf("status %d, want %d\n%s", got.Status, status, got.Body)
	}
	if media := got.Header.Get("Content-Type"); media != "application/problem+json" {
		t.Errorf("Content-Type %q, want application/problem+json", media)
	}
	problem := got.JSON(t)
	if problem["type"] != "/problems/"+kind || problem["status"] != float64(status) || problem["title"] == "" {
		t.Errorf("problem %s, want type /problems/%s, status %d and a title", got.Body, kind, status)
	}
	return problem
}

// AtOnce calls ask n times at once and counts the statuses of the answers.
func AtOnce(n int, ask func(i int) Answer) map[int]int {
	statuses := map[int]int{}
	var mu sync.Mutex
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() {
			got := ask(i)
			mu.Lock()
			defer mu.Unlock()
			statuses[got.Status]++
		})
	}
	wg.Wait()
	return statuses
}
