package registry_test

import (
	"sync"
	"testing"

	"narthex/internal/ids"
	"narthex/internal/registry"
)

// offer offers a ready database, and returns its id.
func offer(t *testing.T, r *registry.Registry, server, template string) (id string) {
	t.Helper()
	id = ids.New()
	for range 2 { // it is idempotent
		err := r.AddReadyDatabase(t.Context(), registry.ReadyDatabase{ID: id, Server: server, Template: template, SchemaVersion: 1})
		if err != nil {
			t.Fatal(err)
		}
	}
	return id
}

// TestNoTwoClaimsGetTheSameDatabase makes more claims at once than there are databases. Each database goes to one claim,
// and the others get none.
func TestNoTwoClaimsGetTheSameDatabase(t *testing.T) {
	t.Parallel()
	r, _ := open(t)
	const ready, claims = 5, 12
	for range ready {
		offer(t, r, "here:5432", "template")
	}
	offer(t, r, "here:5432", "other template")
	offer(t, r, "there:5432", "template")
	var mu sync.Mutex
	got := map[string]int{}
	var group sync.WaitGroup
	for range claims {
		group.Go(func() {
			id, err := r.ClaimReadyDatabase(t.Context(), "here:5432", "template")
			if err != nil {
				t.Errorf("claim: %v", err)
			}
			mu.Lock()
			defer mu.Unlock()
			got[id]++
		})
	}
	group.Wait()
	if got[""] != claims-ready || len(got) != ready+1 {
		t.Errorf("%d claims of %d databases got %v, want each database once and %d times none", claims, ready, got, claims-ready)
	}
}

func TestReadyStock(t *testing.T) {
	t.Parallel()
	r, _ := open(t)
	first := min(offer(t, r, "here:5432", "template"), offer(t, r, "here:5432", "template"))
	offer(t, r, "there:5432", "template")
	if id, err := r.ClaimReadyDatabase(t.Context(), "here:5432", "template"); err != nil || id != first {
		t.Errorf("claimed %s (%v), want the oldest, %s", id, err, first)
	}
	stock, err := r.ReadyStock(t.Context())
	if err != nil || len(stock) != 2 || stock[0].Server != "here:5432" || stock[0].Ready != 1 || stock[0].OldestAt.IsZero() ||
		stock[1].Server != "there:5432" {
		t.Errorf("the stock is %+v (%v), want one at here:5432 and one at there:5432", stock, err)
	}
	for _, want := range []bool{false, true} {
		id := first
		if want {
			id = offer(t, r, "here:5432", "template")
		}
		if removed, err := r.RemoveReadyDatabase(t.Context(), id); err != nil || removed != want {
			t.Errorf("remove: %t (%v), want %t", removed, err, want)
		}
	}
}
