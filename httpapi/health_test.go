package httpapi_test

import (
	"net"
	"net/http"
	"testing"
	"time"

	"go.temporal.io/sdk/client"

	"narthex/httpapi"
	"narthex/internal/dev/testenv"
	"narthex/internal/dev/teststack"
	"narthex/internal/fleet"
	"narthex/internal/fleet/ledger"
	"narthex/migrations"
)

// A process without Temporal is ready, because it can log people in. It says what is missing.
func TestReadinessReportsTemporalButDoesNotNeedIt(t *testing.T) {
	t.Parallel()
	silent, err := net.Listen("tcp", "127.0.0.1:0") // it accepts connections and never answers
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	s := teststack.New(t)
	for _, c := range []struct {
		temporal client.Options
		want     string
	}{
		{client.Options{HostPort: testenv.TemporalAddress(t)}, "ready"},
		{client.Options{HostPort: testenv.TemporalAddress(t), Namespace: "nowhere"}, "unprepared"},
		{client.Options{HostPort: "127.0.0.1:1"}, "unreachable"},
		{client.Options{HostPort: silent.Addr().String()}, "unreachable"},
	} {
		temporal, err := client.NewLazyClient(c.temporal)
		if err != nil {
			t.Fatal(err)
		}
		defer temporal.Close()
		api := s.Another(func(o *httpapi.Options) { o.Temporal = temporal })
		want := `{"fleet":"unknown","status":"ready","temporal":"` + c.want + `"}`
		got := api.Get("/readyz", "")
		for deadline := time.Now().Add(time.Minute); string(got.Body) != want && time.Now().Before(deadline); {
			time.Sleep(50 * time.Millisecond) // on a slow machine, Temporal doesn't answer in time
			got = api.Get("/readyz", "")
		}
		if got.Status != http.StatusOK || string(got.Body) != want {
			t.Errorf("with Temporal at %s, namespace %q: GET /readyz: %d, %s; want 200, %s",
				c.temporal.HostPort, c.temporal.Namespace, got.Status, got.Body, want)
		}
	}
}

// A process is ready while churches are behind. It says so, but not how many there are: anybody may ask.
func TestReadinessSaysWhetherChurchesAreBehind(t *testing.T) {
	t.Parallel()
	s := teststack.New(t)
	s.Church()
	reg := s.OpenRegistry()
	for version, want := range map[int]fleet.Pace{migrations.TenantVersion(): fleet.Current, migrations.TenantVersion() + 1: fleet.Behind} {
		watch := ledger.NewWatch(reg.Pool(), version, s.Logger())
		api := s.Another(func(o *httpapi.Options) { o.Pace = watch.Pace })
		wantFleet(t, api, fleet.Unknown)
		watch.Look(t.Context())
		if _, err := s.Registry.Exec(t.Context(), `ALTER TABLE tenants RENAME TO away`); err != nil {
			t.Fatal(err)
		}
		wantFleet(t, api, want) // without a query
		watch.Look(t.Context())
		wantFleet(t, api, fleet.Unknown)
		if _, err := s.Registry.Exec(t.Context(), `ALTER TABLE away RENAME TO tenants`); err != nil {
			t.Fatal(err)
		}
	}
}

func wantFleet(t *testing.T, api *teststack.Stack, want fleet.Pace) {
	t.Helper()
	got := api.Get("/readyz", "")
	if got.Status != http.StatusOK || got.JSON(t)["fleet"] != string(want) || len(got.JSON(t)) != 3 {
		t.Errorf("GET /readyz: %d, %s; want 200, with fleet %q and no more than status and temporal", got.Status, got.Body, want)
	}
}
