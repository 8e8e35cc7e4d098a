package telemetry

import (
	"context"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"strings"
	"testing"

	"go.opentelemetry.io/otel/trace"

	"narthex/internal/config"
)

func TestHandlerAnswersOnlyThisMachine(t *testing.T) {
	watch, err := Start(t.Context(), slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		path, host string
		loopback   bool
		want       int
	}{
		{"/healthz", "127.0.0.1:9464", true, http.StatusOK},
		{"/metrics", "localhost:9464", true, http.StatusOK},
		{"/debug/pprof/", "[::1]:9464", true, http.StatusOK},
		{"/metrics", "evil.example", true, http.StatusMisdirectedRequest},
		{"/metrics", "worker:9464", false, http.StatusOK},
		{"/api/auth/register", "localhost:9464", true, http.StatusNotFound},
	} {
		request, answer := httptest.NewRequest(http.MethodGet, c.path, nil), httptest.NewRecorder()
		request.Host = c.host
		watch.Handler(c.loopback).ServeHTTP(answer, request)
		if answer.Code != c.want {
			t.Errorf("GET %s of %s: %d, want %d", c.path, c.host, answer.Code, c.want)
		}
	}
}

func TestLinesCarryTheIDsOfTheirContext(t *testing.T) {
	var lines strings.Builder
	log := NewLogger(&lines, config.Log{})
	ctx := trace.ContextWithSpanContext(WithRequestID(context.Background(), "r1"),
		trace.NewSpanContext(trace.SpanContextConfig{TraceID: trace.TraceID{1}, SpanID: trace.SpanID{2}}))
	log.With("RunID", "w1").InfoContext(ctx, "a line")
	for _, want := range []string{`"requestId":"r1"`, `"traceId":"01000000000000000000000000000000"`, `"runId":"w1"`} {
		if !strings.Contains(lines.String(), want) {
			t.Errorf("the line lacks %s: %s", want, lines.String())
		}
	}
	lines.Reset()
	if log.Info("a line"); strings.Contains(lines.String(), "Id") {
		t.Errorf("a line outside of requests has ids: %s", lines.String())
	}
}

func TestLogsAreTextOnATerminalAndJSONElsewhere(t *testing.T) {
	terminal, err := os.OpenFile("/dev/ptmx", os.O_RDWR, 0)
	if err != nil {
		t.Skip("this machine makes no terminal:", err)
	}
	defer terminal.Close()
	var elsewhere strings.Builder
	for _, c := range []struct {
		format                    config.LogFormat
		onTerminal, intoSomething bool
	}{
		{"", true, false}, {config.LogAuto, true, false}, {config.LogText, true, true}, {config.LogJSON, false, false},
	} {
		if inText(terminal, c.format) != c.onTerminal || inText(&elsewhere, c.format) != c.intoSomething {
			t.Errorf("LOG_FORMAT=%s: text on a terminal %t, elsewhere %t; want %t, %t", c.format,
				inText(terminal, c.format), inText(&elsewhere, c.format), c.onTerminal, c.intoSomething)
		}
	}
	NewLogger(&elsewhere, config.Log{LogFormat: config.LogText}).Info("a line", "RunID", "w1")
	if !strings.Contains(elsewhere.String(), `msg="a line" runId=w1`) {
		t.Errorf("the line is not text: %s", elsewhere.String())
	}
}

// promtool tests the alerts' rules on made-up series.
func TestAlertsFire(t *testing.T) {
	path, err := exec.LookPath("promtool")
	if err != nil {
		t.Skip("promtool is not installed")
	}
	for _, file := range []string{"alerts.yaml", "alerts_test.yaml"} { // so that go test's cache knows of them
		if _, err := os.ReadFile(file); err != nil {
			t.Fatal(err)
		}
	}
	if output, err := exec.Command(path, "test", "rules", "alerts_test.yaml").CombinedOutput(); err != nil {
		t.Errorf("promtool test rules: %v\n%s", err, output)
	}
}
