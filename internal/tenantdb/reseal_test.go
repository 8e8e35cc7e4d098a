package tenantdb_test

import (
	"context"
	"testing"

	"narthex/internal/dev/testenv"
	"narthex/internal/sqlstate"
	"narthex/internal/tenantdb"
)

// A separate connection to a church's database limits answers as the router's connections do.
func TestASeparateConnectionLimitsAnswers(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	conn, err := tenantdb.Connect(t.Context(), w.registry, w.enter(testenv.NewDatabase(t)))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.Background())
	if _, err := conn.Exec(t.Context(), `SELECT repeat('x', 10000000)`); err != nil {
		t.Errorf("an answer of 10 MB fails with %v", err)
	}
	_, err = conn.Exec(t.Context(), `SELECT repeat('x', 50000000)`)
	if sqlstate.Words(err) != sqlstate.ErrAnswerTooLarge.Error() {
		t.Errorf("an answer of 50 MB returns %v, want %v", err, sqlstate.ErrAnswerTooLarge)
	}
}
