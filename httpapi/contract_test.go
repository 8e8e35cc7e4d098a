package httpapi_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"regexp"
	"strings"
	"sync"
	"testing"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/getkin/kin-openapi/openapi3filter"
	"github.com/getkin/kin-openapi/routers"
	"github.com/getkin/kin-openapi/routers/gorillamux"
	"github.com/gin-gonic/gin"

	"narthex/httpapi"
	"narthex/httpapi/services"
)

// contract is openapi.yaml with a router over it.
var contract = sync.OnceValues(func() (routers.Router, error) {
	document, err := openapi3.NewLoader().LoadFromFile("openapi.yaml")
	if err != nil {
		return nil, err
	}
	if err := document.Validate(context.Background(), openapi3.EnableExamplesValidation()); err != nil {
		return nil, err
	}
	openapi3.DefineStringFormatValidator("password", openapi3.NewCallbackValidator(func(string) error { return nil }))
	openapi3filter.RegisterBodyDecoder("text/html", openapi3filter.PlainBodyDecoder)
	return gorillamux.NewRouter(document)
})

// holdToContract checks a request and its response against the contract. A request that was refused may
// be as wrong as it likes.
func holdToContract(t *testing.T, request *http.Request, body []byte, got answer) {
	t.Helper()
	router, err := contract()
	if err != nil {
		t.Fatalf("openapi.yaml: %v", err)
	}
	if strings.HasPrefix(request.URL.Path, "/docs/") {
		return // the parts of the docs' page
	}
	route, parameters, err := router.FindRoute(request)
	if err != nil {
		if got.status != http.StatusNotFound && got.status != http.StatusMethodNotAllowed {
			t.Errorf("%s %s is answered with %d, and openapi.yaml knows no such route", request.Method, request.URL.Path, got.status)
		}
		return
	}
	copied := request.Clone(t.Context())
	copied.Body = io.NopCloser(bytes.NewReader(body))
	input := &openapi3filter.RequestValidationInput{Request: copied, PathParams: parameters, Route: route,
		Options: &openapi3filter.Options{AuthenticationFunc: openapi3filter.NoopAuthenticationFunc, IncludeResponseStatus: true}}
	if got.status < 300 {
		if err := openapi3filter.ValidateRequest(t.Context(), input); err != nil {
			t.Errorf("%s %s was taken, and openapi.yaml would refuse it: %v", request.Method, route.Path, err)
		}
	}
	output := &openapi3filter.ResponseValidationInput{RequestValidationInput: input, Status: got.status, Header: got.header,
		Body: io.NopCloser(bytes.NewReader(got.body)), Options: input.Options}
	if err := openapi3filter.ValidateResponse(t.Context(), output); err != nil {
		t.Errorf("%s %s is answered with %d, not as openapi.yaml says: %v", request.Method, route.Path, got.status, err)
	}
}

var ginParameter = regexp.MustCompile(`:(\w+)`)

// TestContractHasEveryRoute compares the routes of the contract with gin's.
func TestContractHasEveryRoute(t *testing.T) {
	t.Parallel()
	document, err := openapi3.NewLoader().LoadFromFile("openapi.yaml")
	if err != nil {
		t.Fatal(err)
	}
	handler, err := httpapi.New(httpapi.Options{Services: services.Routes()})
	if err != nil {
		t.Fatal(err)
	}
	served := map[string]bool{}
	for _, route := range handler.(*gin.Engine).Routes() {
		if strings.HasSuffix(route.Path, "/*part") {
			continue // the parts of the docs' page
		}
		served[route.Method+" "+ginParameter.ReplaceAllString(route.Path, "{$1}")] = true
	}
	described := map[string]bool{}
	for path, item := range document.Paths.Map() {
		for method := range item.Operations() {
			described[method+" "+path] = true
		}
	}
	for route := range served {
		if !described[route] {
			t.Errorf("openapi.yaml lacks %s", route)
		}
	}
	for route := range described {
		if !served[route] {
			t.Errorf("openapi.yaml describes %s, which is not served", route)
		}
	}
}

// TestContractHasEveryProblem looks up each problem type of the code.
func TestContractHasEveryProblem(t *testing.T) {
	t.Parallel()
	described, err := os.ReadFile("openapi.yaml")
	if err != nil {
		t.Fatal(err)
	}
	files, err := os.ReadDir(".")
	if err != nil {
		t.Fatal(err)
	}
	// What no route of the contract answers: routes and methods that there are not, and the codec endpoint's.
	except := map[string]bool{"method-not-allowed": true, "not-readable": true, "misdirected": true}
	found := 0
	for _, file := range files {
		if !strings.HasSuffix(file.Name(), ".go") || strings.HasSuffix(file.Name(), "_test.go") {
			continue
		}
		source, err := os.ReadFile(file.Name())
		if err != nil {
			t.Fatal(err)
		}
		for _, match := range regexp.MustCompile(`newProblem\(http\.\w+, "([a-z-]+)"|"/problems/([a-z-]+)"`).FindAllStringSubmatch(string(source), -1) {
			kind := match[1] + match[2]
			found++
			if !except[kind] && !regexp.MustCompile(`/problems/`+kind+`[],]`).Match(described) {
				t.Errorf("openapi.yaml lacks the problem type /problems/%s of %s", kind, file.Name())
			}
		}
	}
	if found < 20 {
		t.Errorf("%d problem types were found in the code: the test looks in the wrong places", found)
	}
}

func TestIndexLinksToTheDocs(t *testing.T) {
	t.Parallel()
	s := newStack(t)
	if page := s.get("/", ""); page.status != http.StatusOK || !strings.Contains(string(page.body), `href="/docs"`) {
		t.Errorf("GET /: status %d, want 200 and a link to /docs\n%s", page.status, page.body)
	}
	// The docs' page sends an example that is there, so everybody who tries it out would send the same key.
	contract := s.get("/openapi.yaml", "")
	_, key, _ := strings.Cut(string(contract.body), "name: Idempotency-Key")
	key, _, _ = strings.Cut(key, "\n")
	if strings.Contains(key, "example") || strings.Contains(key, "default") {
		t.Errorf("the contract has a fixed Idempotency-Key: %s", key)
	}
}

// TestDocsNeedNoOtherHost follows the docs' page to all its parts.
func TestDocsNeedNoOtherHost(t *testing.T) {
	t.Parallel()
	s := newStack(t)
	page := s.get("/docs", "")
	if page.status != http.StatusOK || !bytes.Contains(page.body, []byte("/openapi.yaml")) {
		t.Fatalf("/docs: status %d, want 200 and a page over /openapi.yaml\n%s", page.status, page.body)
	}
	parts := regexp.MustCompile(`(?:src|href)="([^"]*)"`).FindAllSubmatch(page.body, -1)
	if len(parts) < 3 {
		t.Errorf("the page has %d parts, want its scripts and styles", len(parts))
	}
	for _, part := range parts {
		path := string(part[1])
		if !strings.HasPrefix(path, "/docs") {
			t.Errorf("the page needs %s, which is not served under /docs", path)
			continue
		}
		if got := s.get(path, ""); got.status != http.StatusOK {
			t.Errorf("%s: status %d, want 200", path, got.status)
		}
	}
	if served := s.get("/openapi.yaml", ""); !bytes.HasPrefix(served.body, []byte("openapi: 3.0.3")) {
		t.Errorf("/openapi.yaml: %s", fmt.Sprintf("%.100s", served.body))
	}
}
