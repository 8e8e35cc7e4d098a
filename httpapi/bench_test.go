package httpapi_test

import (
	"bytes"
	"context"
	"encoding/json"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"slices"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"golang.org/x/crypto/bcrypt"

	"narthex/httpapi"
	"narthex/internal/dev/testenv"
	"narthex/internal/ids"
	"narthex/internal/password"
	"narthex/internal/registry"
	"narthex/internal/schema"
	"narthex/internal/secrets"
	"narthex/internal/sessions"
	"narthex/internal/tenantdb"
	"narthex/internal/tenantserver"
	"narthex/internal/throttle"
	"narthex/internal/tokens"
	"narthex/migrations"
)

const benchPassword = "correct horse battery"

// bench is an API without Temporal, whose churches were entered without signups.
type bench struct {
	*testing.B
	keys     *secrets.Keys
	registry *registry.Registry
	server   *tenantserver.Server
	tokens   *tokens.Issuer
	handler  http.Handler
	hash     string // of benchPassword
}

// benchChurch is an open church with one admin.
type benchChurch struct {
	subject            tokens.Subject
	email, databaseURL string
}

func newBench(b *testing.B, connections int) *bench {
	w := &bench{B: b, keys: testenv.Keys(b)}
	w.registry, _ = testenv.NewRegistry(b, w.keys)
	var err error
	w.server, err = tenantserver.Open(b.Context(), testenv.PostgresURL(b), ids.New(), migrations.Tenant)
	w.must(err)
	b.Cleanup(w.server.Close)
	hash, err := bcrypt.GenerateFromPassword([]byte(benchPassword), password.Cost)
	w.must(err)
	w.hash = string(hash)
	w.tokens = tokens.New(testenv.TokenKeys(b), "narthex", "narthex-api", time.Now)
	passwords, err := password.NewHasher(password.Cost)
	w.must(err)
	log := slog.New(slog.DiscardHandler)
	router := tenantdb.NewRouter(w.registry, w.keys, connections, log)
	b.Cleanup(router.Close)
	w.handler, err = httpapi.New(httpapi.Options{Registry: w.registry, Router: router,
		Sessions: sessions.New(w.registry.Pool()), Throttle: throttle.New(w.registry.Pool()),
		Keys: w.keys, Tokens: w.tokens, Passwords: passwords,
		AnswerLimit: time.Minute, Log: log, Now: time.Now})
	w.must(err)
	return w
}

func (w *bench) must(err error) {
	w.Helper()
	if err != nil {
		w.Fatal(err)
	}
}

// church makes a church with its database, and opens it.
func (w *bench) church() benchChurch {
	ctx, now := w.Context(), time.Now()
	owner := registry.Owner{RunID: ids.New(), TenantID: ids.New()}
	d := tenantserver.Database{TenantID: owner.TenantID, SignupID: owner.RunID, Password: ids.New()}
	_, err := w.server.Create(ctx, d, func(context.Context) error { return nil }, nil)
	w.must(err)
	w.Cleanup(func() {
		w.must(w.server.Drop(context.Background(), d, func(context.Context) error { return nil }))
	})
	databaseURL, host, port, name := w.server.Location(d)
	config, err := pgx.ParseConfig(databaseURL)
	w.must(err)
	w.must(schema.Up(ctx, config, migrations.Tenant, nil))
	email := owner.TenantID + "@example.org"
	emailHash, err := w.keys.EmailIndex(email)
	w.must(err)
	admin := registry.Admin{ID: ids.New(), Email: email, EmailHash: emailHash, PasswordHash: w.hash, FirstName: "Pat", LastName: "Muster",
		Role: registry.RolePrimary, CreatedAt: now}
	conn, err := pgx.ConnectConfig(ctx, config)
	w.must(err)
	defer conn.Close(ctx)
	for _, err := range []error{
		w.registry.InsertChurch(ctx, owner, registry.Church{
			Name: "Grace Chapel", Email: email, EmailHash: emailHash, TrialEndsAt: now, CreatedAt: now,
		}),
		w.registry.InsertTenant(ctx, owner, registry.NewTenant{Name: "Grace Chapel", Email: email, DatabaseURL: databaseURL,
			DatabaseHost: host, DatabasePort: port, DatabaseName: name, SchemaVersion: 1, CreatedAt: now}),
		w.registry.InsertAdmin(ctx, owner, admin),
		w.registry.InsertEmailEntry(ctx, owner, registry.EmailEntry{Email: email, EmailHash: emailHash, AdminID: admin.ID, CreatedAt: now}),
		tenantdb.InsertAdmin(ctx, conn, w.keys, owner.TenantID, admin),
		w.registry.ActivateTenant(ctx, owner, admin.ID),
	} {
		w.must(err)
	}
	return benchChurch{tokens.Subject{TenantID: owner.TenantID, AdminID: admin.ID, SessionID: ids.New(), Role: admin.Role}, email, databaseURL}
}

func (w *bench) serve(request *http.Request) {
	recorder := httptest.NewRecorder()
	w.handler.ServeHTTP(recorder, request)
	if recorder.Code != http.StatusOK {
		w.Fatalf("the handler answers %d: %s", recorder.Code, recorder.Body)
	}
}

// BenchmarkMe measures a read from a church's database and the query alone, in turn.
func BenchmarkMe(b *testing.B) {
	w := newBench(b, 10)
	church := w.church()
	token, err := w.tokens.Mint(church.subject)
	w.must(err)
	pool, err := pgxpool.New(b.Context(), church.databaseURL)
	w.must(err)
	defer pool.Close()
	var query, handler []time.Duration
	for b.Loop() {
		begun := time.Now()
		var id, hash, firstName, lastName, role string
		var email []byte
		var welcomed bool
		w.must(pool.QueryRow(b.Context(), `SELECT id, encrypted_email, password_hash, first_name, last_name, role, welcome_completed
			FROM admins WHERE id = $1`, church.subject.AdminID).Scan(&id, &email, &hash, &firstName, &lastName, &role, &welcomed))
		query = append(query, time.Since(begun))

		begun = time.Now()
		request := httptest.NewRequestWithContext(b.Context(), http.MethodGet, "/api/auth/me", nil)
		request.Header.Set("Authorization", "Bearer "+token)
		w.serve(request)
		handler = append(handler, time.Since(begun))
	}
	slices.Sort(query)
	slices.Sort(handler)
	ofQuery, ofHandler := float64(query[len(query)/2]), float64(handler[len(handler)/2])
	b.ReportMetric(ofQuery, "query-p50-ns")
	b.ReportMetric(ofHandler, "handler-p50-ns")
	b.ReportMetric(ofHandler/ofQuery, "handler/query")
}

// BenchmarkLogin measures a password comparison alone, logins to a church whose database is connected, and logins to
// churches that must each wait until another's connection is closed.
func BenchmarkLogin(b *testing.B) {
	b.Run("bcrypt", func(b *testing.B) {
		w := &bench{B: b}
		hash, err := bcrypt.GenerateFromPassword([]byte(benchPassword), password.Cost)
		w.must(err)
		for b.Loop() {
			w.must(bcrypt.CompareHashAndPassword(hash, []byte(benchPassword)))
		}
	})
	for name, churches := range map[string]int{"connected": 1, "connecting": 6} {
		b.Run(name, func(b *testing.B) {
			w := newBench(b, 3)
			var bodies [][]byte
			for range churches {
				body, err := json.Marshal(map[string]string{"email": w.church().email, "password": benchPassword})
				w.must(err)
				bodies = append(bodies, body)
			}
			n := 0
			for b.Loop() {
				request := httptest.NewRequestWithContext(b.Context(), http.MethodPost, "/api/auth/login", bytes.NewReader(bodies[n%churches]))
				request.Header.Set("Content-Type", "application/json")
				w.serve(request)
				n++
			}
		})
	}
}
