package idempotency_test

import (
	"bytes"
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"narthex/internal/dev/testenv"
	"narthex/internal/idempotency"
	"narthex/internal/ids"
	"narthex/internal/postgres"
	"narthex/internal/signup"
)

func TestMain(m *testing.M) { testenv.Main(m) }

// newStore opens a store in the test's own registry database.
func newStore(t *testing.T) (*idempotency.Store, *postgres.Pool) {
	t.Helper()
	keys := testenv.Keys(t)
	registry, _ := testenv.NewRegistry(t, keys)
	return idempotency.New(registry.Pool(), keys), registry.Pool()
}

func wanted(i byte) signup.Reservation {
	return signup.Reservation{KeyID: []byte("key"), RequestHash: []byte("request"), TenantID: ids.New(), Input: []byte{i}}
}

func started(_ context.Context, kept signup.Reservation) (signup.Reservation, error) {
	kept.RunID, kept.PublicID = "run", "public"
	return kept, nil
}

func within(t *testing.T, limit time.Duration) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	t.Cleanup(cancel)
	return ctx
}

func TestReserveStartsOnce(t *testing.T) {
	t.Parallel()
	s, _ := newStore(t)
	var starts atomic.Int32
	start := func(ctx context.Context, kept signup.Reservation) (signup.Reservation, error) {
		if starts.Add(1) == 1 {
			return signup.Reservation{}, errors.New("it dies")
		}
		return started(ctx, kept)
	}
	ctx := within(t, time.Minute)
	if _, err := s.Reserve(ctx, wanted(1), start); err == nil {
		t.Fatal("a start that fails is no error")
	}
	var wg sync.WaitGroup
	for i := range 10 {
		wg.Go(func() {
			kept, err := s.Reserve(ctx, wanted(byte(i+2)), start)
			if err != nil || kept.RunID != "run" || !bytes.Equal(kept.Input, []byte{1}) {
				t.Errorf("%+v, %v; want the first one's input, started", kept, err)
			}
		})
	}
	wg.Wait()
	if starts.Load() != 2 {
		t.Errorf("%d starts, want 2: one that died, one that worked", starts.Load())
	}
	if _, err := s.Find(ctx, []byte("key"), []byte("another")); !errors.Is(err, signup.ErrKeyReused) {
		t.Errorf("another request: %v, want ErrKeyReused", err)
	}
	if _, err := s.Find(ctx, []byte("other"), []byte("request")); !errors.Is(err, signup.ErrNoReservation) {
		t.Errorf("another key: %v, want ErrNoReservation", err)
	}
}

// A claim lasts as long as its holder may take to start, so that the signup isn't started twice.
func TestAClaimOutlastsTheTimeToStart(t *testing.T) {
	t.Parallel()
	s, db := newStore(t)
	claimed, release := make(chan struct{}), make(chan struct{})
	first := make(chan error)
	go func() {
		_, err := s.Reserve(within(t, time.Hour), wanted(1), func(ctx context.Context, kept signup.Reservation) (signup.Reservation, error) {
			close(claimed)
			<-release
			return started(ctx, kept)
		})
		first <- err
	}()
	<-claimed
	if _, err := db.Exec(t.Context(), `UPDATE idempotency_keys SET claimed_at = claimed_at - interval '59 minutes'`); err != nil {
		t.Fatal(err)
	}
	second := make(chan error)
	go func() {
		_, err := s.Reserve(within(t, time.Hour), wanted(1), func(context.Context, signup.Reservation) (signup.Reservation, error) {
			return signup.Reservation{}, errors.New("it was started twice")
		})
		second <- err
	}()
	time.Sleep(300 * time.Millisecond) // time for a few looks at the claim
	close(release)
	for _, ended := range []chan error{first, second} {
		if err := <-ended; err != nil {
			t.Error(err)
		}
	}
}

// If a start fails because the registry hangs, Reserve returns, even though it can't drop the claim.
func TestReserveReturnsFromAHungRegistry(t *testing.T) {
	t.Parallel()
	s, db := newStore(t)
	release, failed := make(chan struct{}), make(chan error, 1)
	go func() {
		failed <- db.InTx(t.Context(), func(tx pgx.Tx) error {
			_, err := s.Reserve(within(t, time.Minute), wanted(1), func(ctx context.Context, _ signup.Reservation) (signup.Reservation, error) {
				_, err := tx.Exec(ctx, `LOCK TABLE idempotency_keys`)
				return signup.Reservation{}, errors.Join(errors.New("it fails"), err)
			})
			close(release)
			return err
		})
	}()
	select {
	case <-release:
		if err := <-failed; err == nil {
			t.Error("no error, want the start's")
		}
	case <-time.After(20 * time.Second):
		t.Error("no answer after 20 s")
	}
}

func TestTidyForgetsOldKeys(t *testing.T) {
	t.Parallel()
	s, db := newStore(t)
	ctx := within(t, time.Minute)
	if _, err := s.Reserve(ctx, wanted(1), started); err != nil {
		t.Fatal(err)
	}
	for _, days := range []int{28, 29} {
		var want error
		if days == 29 {
			want = signup.ErrNoReservation
		}
		_, err := db.Exec(ctx, `UPDATE idempotency_keys SET created_at = now() - make_interval(days => $1, mins => 1)`, days)
		if err != nil {
			t.Fatal(err)
		}
		if err := s.Tidy(ctx); err != nil {
			t.Fatal(err)
		}
		if _, err := s.Find(ctx, []byte("key"), []byte("request")); !errors.Is(err, want) {
			t.Errorf("after %d days: %v, want %v", days, err, want)
		}
	}
}
