package teststack

import (
	"net/http"
)

// LogIn logs in with the credentials of a register request, and expects it to work.
func (s *Stack) LogIn(body map[string]any) map[string]any {
	s.T.Helper()
	got := s.Post("/api/auth/login", map[string]any{"email": body["email"], "password": body["password"]})
	if got.Status != http.StatusOK {
		s.T.Fatalf("login: status %d, want 200\n%s", got.Status, got.Body)
	}
	return got.JSON(s.T)
}

// Refresh exchanges a refresh token.
func (s *Stack) Refresh(token any) Answer {
	s.T.Helper()
	return s.Post("/api/auth/refresh", map[string]any{"refreshToken": token})
}

// WantRefresh exchanges a refresh token and expects it to work.
func (s *Stack) WantRefresh(token any) map[string]any {
	s.T.Helper()
	got := s.Refresh(token)
	if got.Status != http.StatusOK {
		s.T.Fatalf("refresh: status %d, want 200\n%s", got.Status, got.Body)
	}
	return got.JSON(s.T)
}

// WantEnded expects a refresh token to be refused because its session has ended.
func (s *Stack) WantEnded(token any) {
	s.T.Helper()
	WantProblem(s.T, s.Refresh(token), http.StatusUnauthorized, "session-ended")
}
