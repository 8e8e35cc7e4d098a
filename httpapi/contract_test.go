package httpapi_test

import (
	"bytes"
	"fmt"
	"net/http"
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/gin-gonic/gin"

	"narthex/httpapi"
	"narthex/httpapi/services"
	"narthex/internal/dev/teststack"
)

var ginParameter = regexp.MustCompile(`:(\w+)`)

// TestContractHasEveryRoute compares the routes of the contract with gin's.
func TestContractHasEveryRoute(t *testing.T) {
	t.Parallel()
	document := teststack.Contract(t)
	handler, err := httpapi.New(httpapi.Options{Services: services.Routes()})
	if err != nil {
		t.Fatal(err)
	}
	served := map[string]bool{}
	for _, route := range handler.(*gin.Engine).Routes() {
		if strings.HasSuffix(route.Path, "/*part") {
			continue // parts of the docs' page
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

var problemsMade = regexp.MustCompile(`new(?:Problem\(http\.\w+, |Unavailable\(|Unauthorized\()"([a-z-]+)"`)

// TestContractHasEveryProblem looks for each problem type of the code in the contract.
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
	// Types that no route of the contract answers: those for unknown routes and methods, and the codec endpoint's.
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
		for _, match := range problemsMade.FindAllStringSubmatch(string(source), -1) {
			kind := match[1]
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
	s := teststack.New(t)
	if page := s.Get("/", ""); page.Status != http.StatusOK || !strings.Contains(string(page.Body), `href="/docs"`) {
		t.Errorf("GET /: status %d, want 200 and a link to /docs\n%s", page.Status, page.Body)
	}
}

// The docs' page sends examples and defaults, so everybody who tries the request out would send the same key.
func TestDocsSuggestNoIdempotencyKey(t *testing.T) {
	t.Parallel()
	found := 0
	for path, item := range teststack.Contract(t).Paths.Map() {
		for method, operation := range item.Operations() {
			key := operation.Parameters.GetByInAndName(openapi3.ParameterInHeader, "Idempotency-Key")
			if key == nil {
				continue
			}
			found++
			if schema := key.Schema.Value; key.Example != nil || key.Examples != nil || schema.Example != nil || schema.Default != nil {
				t.Errorf("%s %s suggests the Idempotency-Key %v, %v, %v or %v, want none",
					method, path, key.Example, key.Examples, schema.Example, schema.Default)
			}
		}
	}
	if found == 0 {
		t.Error("no operation has an Idempotency-Key, want register's")
	}
}

// TestDocsNeedNoOtherHost requests all parts of the docs' page.
func TestDocsNeedNoOtherHost(t *testing.T) {
	t.Parallel()
	s := teststack.New(t)
	page := s.Get("/docs", "")
	if page.Status != http.StatusOK || !bytes.Contains(page.Body, []byte("/openapi.yaml")) {
		t.Fatalf("/docs: status %d, want 200 and a page over /openapi.yaml\n%s", page.Status, page.Body)
	}
	parts := regexp.MustCompile(`(?:src|href)="([^"]*)"`).FindAllSubmatch(page.Body, -1)
	if len(parts) < 3 {
		t.Errorf("the page has %d parts, want its scripts and styles", len(parts))
	}
	for _, part := range parts {
		path := string(part[1])
		if !strings.HasPrefix(path, "/docs") {
			t.Errorf("the page needs %s, which is not served under /docs", path)
			continue
		}
		if got := s.Get(path, ""); got.Status != http.StatusOK {
			t.Errorf("%s: status %d, want 200", path, got.Status)
		}
	}
	if served := s.Get("/openapi.yaml", ""); !bytes.HasPrefix(served.Body, []byte("openapi: 3.0.3")) {
		t.Errorf("/openapi.yaml: %s", fmt.Sprintf("%.100s", served.Body))
	}
}
