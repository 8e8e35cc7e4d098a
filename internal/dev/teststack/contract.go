package teststack

import (
	"bytes"
	"context"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/getkin/kin-openapi/openapi3filter"
	"github.com/getkin/kin-openapi/routers"
	"github.com/getkin/kin-openapi/routers/gorillamux"

	"narthex/httpapi"
)

// Contract returns openapi.yaml, as the API serves it.
func Contract(t *testing.T) *openapi3.T {
	t.Helper()
	document, err := served()
	if err != nil {
		t.Fatalf("openapi.yaml: %v", err)
	}
	return document
}

var served = sync.OnceValues(func() (*openapi3.T, error) {
	api, err := httpapi.New(httpapi.Options{Log: slog.New(slog.DiscardHandler), Now: time.Now, AnswerLimit: Unhurried})
	if err != nil {
		return nil, err
	}
	answer := httptest.NewRecorder()
	api.ServeHTTP(answer, httptest.NewRequest(http.MethodGet, "/openapi.yaml", nil))
	return openapi3.NewLoader().LoadFromData(answer.Body.Bytes())
})

// contract is a router over the contract.
var contract = sync.OnceValues(func() (routers.Router, error) {
	document, err := served()
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

// holdToContract checks a request and its response against the contract. A refused request may violate
// it.
func holdToContract(t *testing.T, request *http.Request, body []byte, got Answer) {
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
		if got.Status != http.StatusNotFound && got.Status != http.StatusMethodNotAllowed {
			t.Errorf("%s %s is answered with %d, and openapi.yaml knows no such route", request.Method, request.URL.Path, got.Status)
		}
		return
	}
	copied := request.Clone(t.Context())
	copied.Body = io.NopCloser(bytes.NewReader(body))
	input := &openapi3filter.RequestValidationInput{Request: copied, PathParams: parameters, Route: route,
		Options: &openapi3filter.Options{AuthenticationFunc: openapi3filter.NoopAuthenticationFunc, IncludeResponseStatus: true}}
	if got.Status < 300 {
		if err := openapi3filter.ValidateRequest(t.Context(), input); err != nil {
			t.Errorf("%s %s was accepted, but openapi.yaml forbids it: %v", request.Method, route.Path, err)
		}
	}
	output := &openapi3filter.ResponseValidationInput{RequestValidationInput: input, Status: got.Status, Header: got.Header,
		Body: io.NopCloser(bytes.NewReader(got.Body)), Options: input.Options}
	if err := openapi3filter.ValidateResponse(t.Context(), output); err != nil {
		t.Errorf("%s %s is answered with %d, not as openapi.yaml says: %v", request.Method, route.Path, got.Status, err)
	}
}
