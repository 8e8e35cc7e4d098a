package runs_test

import (
	"errors"
	"testing"

	"go.temporal.io/sdk/client"

	"narthex/internal/dev/searchattributes"
	"narthex/internal/dev/testenv"
	"narthex/internal/runs"
)

func TestMain(m *testing.M) { testenv.Main(m) }

func TestReadyAsksForNamespaceAndSearchAttributes(t *testing.T) {
	dial := func(namespace string) client.Client {
		c, err := client.NewLazyClient(client.Options{HostPort: testenv.TemporalAddress(t), Namespace: namespace})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(c.Close)
		return c
	}
	if err := runs.Ready(t.Context(), dial("nowhere")); !errors.Is(err, runs.ErrNotPrepared) {
		t.Errorf("without a namespace: %v, want ErrNotPrepared", err)
	}
	temporal := dial("default")
	if err := runs.Ready(t.Context(), temporal); !errors.Is(err, runs.ErrNotPrepared) {
		t.Errorf("without search attributes: %v, want ErrNotPrepared", err)
	}
	if err := searchattributes.Ensure(t.Context(), temporal, "default"); err != nil {
		t.Fatal(err)
	}
	if err := runs.Ready(t.Context(), temporal); err != nil {
		t.Errorf("with all: %v", err)
	}
}
