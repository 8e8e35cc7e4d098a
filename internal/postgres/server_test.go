package postgres_test

import (
	"testing"

	"narthex/internal/postgres"
)

func TestServerName(t *testing.T) {
	t.Parallel()
	for host, want := range map[string]string{
		"db.example.org": "db.example.org:5432", "::1": "[::1]:5432", "/run/postgresql": "/run/postgresql:5432",
	} {
		got := postgres.ServerName(host, 5432)
		if got != want {
			t.Errorf("the server on %s is called %s, want %s", host, got, want)
		}
		if again, port, err := postgres.ParseServerName(got); again != host || port != 5432 || err != nil {
			t.Errorf("%s is parsed as %s and %d (%v), want %s and 5432", got, again, port, err, host)
		}
	}
	for _, name := range []string{"", "db.example.org", "::1:5432", "db.example.org:postgres"} {
		if host, port, err := postgres.ParseServerName(name); err == nil {
			t.Errorf("%q is parsed as %s and %d, want an error", name, host, port)
		}
	}
}
