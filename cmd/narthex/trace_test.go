package main

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	collector "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	tracepb "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/protobuf/encoding/prototext"
	"google.golang.org/protobuf/proto"

	"narthex/internal/dev/testenv"
)

// receiver receives traces over OTLP/HTTP.
type receiver struct {
	url   string
	mu    sync.Mutex
	spans []*tracepb.Span
	dump  strings.Builder
}

func startReceiver(t *testing.T) *receiver {
	t.Helper()
	r := &receiver{}
	server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, request *http.Request) {
		var batch collector.ExportTraceServiceRequest
		body, err := io.ReadAll(request.Body)
		if err == nil {
			err = proto.Unmarshal(body, &batch)
		}
		if err != nil || request.URL.Path != "/v1/traces" {
			t.Errorf("%s is not a batch of spans: %v", request.URL.Path, err)
			return
		}
		r.mu.Lock()
		defer r.mu.Unlock()
		r.dump.WriteString(prototext.Format(&batch))
		for _, resource := range batch.ResourceSpans {
			for _, scope := range resource.ScopeSpans {
				r.spans = append(r.spans, scope.Spans...)
			}
		}
	}))
	t.Cleanup(server.Close)
	r.url = server.URL
	return r
}

// await waits for a span of a trace, and returns it.
func (r *receiver) await(t *testing.T, traceID, name string) *tracepb.Span {
	t.Helper()
	for deadline := time.Now().Add(3 * time.Minute); time.Now().Before(deadline); time.Sleep(50 * time.Millisecond) {
		if span := r.find(func(s *tracepb.Span) bool { return s.Name == name && hex.EncodeToString(s.TraceId) == traceID }); span != nil {
			return span
		}
	}
	t.Fatalf("no span %q of the trace %s has arrived", name, traceID)
	return nil
}

func (r *receiver) find(which func(*tracepb.Span) bool) *tracepb.Span {
	r.mu.Lock()
	defer r.mu.Unlock()
	if i := slices.IndexFunc(r.spans, which); i >= 0 {
		return r.spans[i]
	}
	return nil
}

// ancestry returns the names of a span, its parent, and so on up to the root.
func (r *receiver) ancestry(span *tracepb.Span) (names []string) {
	for ; span != nil; span = r.find(func(s *tracepb.Span) bool { return bytes.Equal(s.SpanId, span.ParentSpanId) }) {
		names = append(names, span.Name)
	}
	return names
}

// One trace leads from the request in the API's process through the workflow and its activities in the worker to SQL. Its
// id is in both processes' log lines.
func TestOneTraceFromRequestToSQL(t *testing.T) {
	t.Parallel()
	receiver := startReceiver(t)
	variables := append(environment(t, sharedTemporal(t)), "SIGNUP_WAIT=1m", "OPERATIONS_ADDRESS=127.0.0.1:0",
		"OTEL_EXPORTER_OTLP_ENDPOINT="+receiver.url, "OTEL_BSP_SCHEDULE_DELAY=100")
	if status, output := narthex(t, variables, "migrate"); status != 0 {
		t.Fatal(output)
	}
	api, worker := testenv.Start(t, variables, "narthex", "api"), testenv.Start(t, variables, "narthex", "worker")
	worker.WaitFor(`"msg":"ready"`)
	url := ready(api)
	who := applicant()
	const foreign = "0af7651916cd43dd8448eb211c80319c" // the trace of a caller
	requestID := send(t, url+"/api/auth/register", who, map[string]string{
		"Traceparent": "00-" + foreign + "-b7ad6b7169203331-01", "Baggage": "name=Muster", "X-Request-Id": "mine",
	})
	traceID := logLine(t, api, "request", "requestId", requestID)["traceId"].(string)

	ancestry := func(span *tracepb.Span) string { return strings.Join(receiver.ancestry(span), " < ") }
	receiver.await(t, traceID, "POST /api/auth/register")
	receiver.await(t, traceID, "RunWorkflow:Signup")
	receiver.await(t, traceID, "RunActivity:CreateDatabase")
	want := "CREATE DATABASE < RunActivity:CreateDatabase < StartActivity:CreateDatabase < " +
		"RunWorkflow:Signup < StartWorkflow:Signup < POST /api/auth/register"
	if got := ancestry(receiver.await(t, traceID, "CREATE DATABASE")); got != want {
		t.Errorf("the statement's ancestry is\n  %s, want\n  %s", got, want)
	}
	root := receiver.await(t, traceID, "POST /api/auth/register")
	if traceID == foreign || len(root.Links) != 1 || hex.EncodeToString(root.Links[0].TraceId) != foreign {
		t.Errorf("the trace is %s with the links %v, want one of its own with a link to the caller's", traceID, root.Links)
	}
	started, ended := logLine(t, api, "signup started", "traceId", traceID), logLine(t, worker, "Saga ended", "traceId", traceID)
	if started["requestId"] != requestID || started["workflowId"] != ended["workflowId"] || started["runId"] != ended["runId"] {
		t.Errorf("the API says\n  %v, and the worker\n  %v; want one request, workflow and run", started, ended)
	}

	send(t, url+"/api/auth/login", map[string]string{"email": who["email"], "password": who["password"]}, nil)
	receiver.await(t, logLine(t, api, "request", "route", "/api/auth/login")["traceId"].(string), "POST /api/auth/login")
	receiver.mu.Lock()
	defer receiver.mu.Unlock()
	for where, text := range map[string]string{
		"the spans": receiver.dump.String(), "the API's metrics": metricsOf(t, api), "the worker's metrics": metricsOf(t, worker),
		"the logs": api.Output() + worker.Output(),
	} {
		testenv.WantNothingOf(t, where, text, who["email"], "example.org", who["password"], "Grace Chapel", "Muster",
			"postgres://", "$2a$", "SCRAM-SHA-256", "INSERT INTO", `"mine"`)
	}
}

// send posts a body and returns the answer's request id.
func send(t *testing.T, url string, body, header map[string]string) (requestID string) {
	t.Helper()
	content, err := json.Marshal(body)
	if err != nil {
		t.Fatal(err)
	}
	request, err := http.NewRequest(http.MethodPost, url, bytes.NewReader(content))
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("Content-Type", "application/json")
	for name, value := range header {
		request.Header.Set(name, value)
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	if response.StatusCode >= 300 {
		t.Fatalf("POST %s: %s", url, response.Status)
	}
	return response.Header.Get("X-Request-Id")
}

// logLine waits for a line of a process's log with this message and this value under key.
func logLine(t *testing.T, r *testenv.Run, message, key, value string) (fields map[string]any) {
	t.Helper()
	for deadline := time.Now().Add(3 * time.Minute); time.Now().Before(deadline); time.Sleep(50 * time.Millisecond) {
		for line := range strings.Lines(r.Output()) {
			fields = nil
			if json.Unmarshal([]byte(line), &fields) == nil && fields["msg"] == message && fields[key] == value {
				return fields
			}
		}
	}
	t.Fatalf("no line %q with %s %q", message, key, value)
	return nil
}

// metricsOf returns what Prometheus reads from a process.
func metricsOf(t *testing.T, r *testenv.Run) string {
	t.Helper()
	address := regexp.MustCompile(`"operations":"([^"]*)"`).FindStringSubmatch(r.Output())[1]
	response, err := http.Get("http://" + address + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	content, err := io.ReadAll(response.Body)
	if err != nil || !strings.Contains(string(content), "temporal_request_total") {
		t.Errorf("/metrics lacks Temporal's requests (%v):\n%.500s", err, content)
	}
	return string(content)
}
