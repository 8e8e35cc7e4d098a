package process

import (
	"encoding/json"
	"log/slog"
	"net"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.opentelemetry.io/otel"

	"narthex/internal/config"
)

// lockedLines keeps what several goroutines log.
type lockedLines struct {
	mu    sync.Mutex
	lines strings.Builder
}

func (l *lockedLines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.lines.Write(p)
}

// count returns how often each message was logged.
func (l *lockedLines) count(t *testing.T) map[string]int {
	t.Helper()
	l.mu.Lock()
	defer l.mu.Unlock()
	times := map[string]int{}
	for decoder := json.NewDecoder(strings.NewReader(l.lines.String())); decoder.More(); {
		var line struct{ Msg string }
		if err := decoder.Decode(&line); err != nil {
			t.Fatal(err)
		}
		times[line.Msg]++
	}
	return times
}

// outageConfig returns the configuration of an API whose registry is at address.
func outageConfig(t *testing.T, address string) config.Process {
	t.Helper()
	made, err := config.NewKeys()
	if err != nil {
		t.Fatal(err)
	}
	var c config.Process
	c.API, c.Codec = &config.API{}, &config.Codec{}
	made["REGISTRY_URL"] = "postgres://narthex@" + address + "/registry?sslmode=disable"
	made["HTTP_ADDRESS"] = "127.0.0.1:0"
	if err := config.ParseFrom(&c, made); err != nil {
		t.Fatal(err)
	}
	return c
}

// closedPort returns an address at which nothing listens.
func closedPort(t *testing.T) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	return listener.Addr().String()
}

// In an outage of the registry, each kind of error is logged once a minute: missing notifications, failed requests, and
// traces that can't be sent.
func TestAnAPIsOutageIsALineAMinute(t *testing.T) {
	t.Setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://user:5ecret@"+closedPort(t))
	c := outageConfig(t, closedPort(t))
	synctest.Test(t, func(t *testing.T) {
		var lines lockedLines
		p := &process{Config: Config{Process: c, Log: slog.New(slog.NewJSONHandler(&lines, nil))}}
		if err := p.open(t.Context()); err != nil {
			t.Fatal(err)
		}
		a, err := openAPI(t.Context(), p)
		if err != nil {
			t.Fatal(err)
		}
		for range 59 { // seconds
			request := httptest.NewRequest("POST", "/api/auth/refresh", strings.NewReader(`{"refreshToken":"`+strings.Repeat("a", 43)+`"}`))
			request.Header.Set("Content-Type", "application/json")
			answer := httptest.NewRecorder()
			a.servers[0].Handler.ServeHTTP(answer, request)
			if answer.Code != 503 {
				t.Fatalf("without the registry, a refresh is answered with %d: %s", answer.Code, answer.Body)
			}
			otel.Handle(&net.OpError{Op: "dial", Err: net.ErrClosed})
			time.Sleep(time.Second)
		}
		times := lines.count(t)
		for _, want := range []string{"The registry sends no notifications", "request failed", "Traces could not be sent"} {
			logged := 0
			for message, count := range times {
				if strings.HasPrefix(message, want) {
					logged += count
				}
			}
			if logged != 1 {
				t.Errorf("%q is logged %d times in a minute, want once", want, logged)
			}
		}
		a.close()
		p.close()
		if strings.Contains(lines.lines.String(), "5ecret") {
			t.Errorf("the log holds the endpoint's password: %s", lines.lines.String())
		}
	})
}
