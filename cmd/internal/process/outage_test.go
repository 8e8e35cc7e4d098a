package process

import (
	"context"
	"encoding/json"
	"log/slog"
	"net"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"go.opentelemetry.io/otel"

	"narthex/internal/config"
	"narthex/internal/dev/testenv"
)

// countMessages returns how often each message was logged.
func countMessages(t *testing.T, logged string) map[string]int {
	t.Helper()
	times := map[string]int{}
	for decoder := json.NewDecoder(strings.NewReader(logged)); decoder.More(); {
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
		var lines testenv.Log
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
		times := countMessages(t, lines.String())
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
		if strings.Contains(lines.String(), "5ecret") {
			t.Errorf("the log holds the endpoint's password: %s", lines.String())
		}
	})
}

// A server that takes connections and never answers must not keep a process silent.
func TestARegistryThatHangsIsLogged(t *testing.T) {
	t.Parallel()
	silent, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	logged := make(firstLine, 1)
	p := &process{Config: Config{Process: outageConfig(t, silent.Addr().String()), Log: slog.New(slog.NewJSONHandler(logged, nil))}}
	if err := p.open(t.Context()); err != nil {
		t.Fatal(err)
	}
	defer p.close()
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- p.awaitRegistry(ctx) }()
	select {
	case line := <-logged:
		if !strings.Contains(line, "The registry is not reachable yet; trying again") || !strings.Contains(line, "no answer in time") {
			t.Errorf("it logs %s, want that the registry doesn't answer in time", line)
		}
	case <-time.After(6 * registryLimit):
		t.Error("it logs nothing while the registry hangs")
	}
	cancel()
	if err := <-ended; err == nil {
		t.Error("the wait for the registry ended without an error, want that it was stopped")
	}
}

// firstLine keeps the first line that is logged.
type firstLine chan string

func (f firstLine) Write(p []byte) (int, error) {
	select {
	case f <- string(p):
	default:
	}
	return len(p), nil
}

func TestAChoreThatHangsStopsNoOther(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		done := 0
		hang := func(ctx context.Context) error {
			<-ctx.Done()
			return ctx.Err()
		}
		go keepTidy(ctx, slog.New(slog.DiscardHandler), hang, func(context.Context) error { done++; return nil })
		time.Sleep(3 * tidyPause)
		synctest.Wait()
		if done < 2 {
			t.Errorf("in %v, the chore behind one that hangs was done %d times, want 2", 3*tidyPause, done)
		}
		cancel()
	})
}
