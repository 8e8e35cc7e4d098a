package systemtest

import (
	"bytes"
	"context"
	"encoding/json"
	"net/http"
	"strings"
	"testing"
	"time"

	"narthex/internal/dev/teststack"
)

func TestSignupCompletesIfTheClientHangsUp(t *testing.T) {
	t.Parallel()
	s := teststack.New(t)
	body := teststack.Applicant()
	started, release := make(chan struct{}, 1), make(chan struct{})
	s.Faults.First(1, "CreateDatabase", func(run func() error) error { started <- struct{}{}; <-release; return run() })
	content, err := json.Marshal(body)
	if err != nil {
		t.Fatal(err)
	}
	ctx, hangUp := context.WithCancel(t.Context())
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, s.URL+"/api/auth/register", bytes.NewReader(content))
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("Content-Type", "application/json")
	go func() { <-started; hangUp(); close(release) }()
	if _, err := http.DefaultClient.Do(request); err == nil {
		t.Fatal("the request was answered before the client hung up")
	}
	teststack.Eventually(t, "login after the client hung up", func() bool {
		return s.Post("/api/auth/login", map[string]any{"email": body["email"], "password": body["password"]}).Status == http.StatusOK
	})
}

func TestSignupCompletesAfterTheWait(t *testing.T) {
	t.Parallel()
	s := teststack.New(t, teststack.WithWait(50*time.Millisecond))
	body := teststack.Applicant()
	begun, release := make(chan struct{}), make(chan struct{})
	s.Faults.AsActivity("MigrateDatabase", func(run func() error) error { close(begun); <-release; return run() })
	got := s.Post("/api/auth/register", body)
	if got.Status != http.StatusAccepted {
		t.Fatalf("status %d, want 202\n%s", got.Status, got.Body)
	}
	location := got.Header.Get("Location")
	if id := got.JSON(t)["signupId"]; location != "/api/signups/"+id.(string) || got.Header.Get("Retry-After") == "" {
		t.Errorf("Location %q and Retry-After %q, want /api/signups/%s and some seconds", location, got.Header.Get("Retry-After"), id)
	}
	<-begun
	status := wantStatus(s, strings.TrimPrefix(location, "/api/signups/"), "running", "")
	if first := status["steps"].([]any)[0].(map[string]any); first["name"] != "CreateDatabase" || first["state"] != "completed" {
		t.Errorf("the first step is %v, want CreateDatabase completed", first)
	}
	close(release) // soon: the step may take 8.5 seconds
	teststack.Eventually(t, "completed signup", func() bool { return s.Get(location, "").JSON(t)["state"] == "completed" })
	for _, step := range s.Get(location, "").JSON(t)["steps"].([]any) {
		if step.(map[string]any)["state"] != "completed" {
			t.Errorf("step %v of a completed signup, want completed", step)
		}
	}
	if strings.Contains(location, body["email"].(string)) {
		t.Error("the signup's id holds the email")
	}
	login := s.Post("/api/auth/login", map[string]any{"email": body["email"], "password": body["password"]})
	wantWhole(s, login.JSON(t))
}
