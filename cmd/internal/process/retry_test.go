package process

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"testing"
	"testing/synctest"
	"time"

	"narthex/internal/telemetry"
)

func TestAnOutageIsALineAMinute(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var lines bytes.Buffer
		folding := telemetry.NewFolding(slog.NewJSONHandler(&lines, nil))
		tries := 0
		err := retry{
			warning: "It is not reachable yet", words: error.Error, log: slog.New(folding), pause: 2 * time.Second,
		}.do(t.Context(), func(context.Context) error {
			if tries++; tries > 100 {
				return nil
			}
			return errors.New("dial: connection refused")
		})
		synctest.Wait()
		folding.Flush()
		if err != nil || tries != 101 {
			t.Errorf("after %d tries: %v; want success at the 101st", tries, err)
		}
		logged, counted := 0, 0
		for decoder := json.NewDecoder(&lines); decoder.More(); {
			var line struct {
				Msg      string
				Error    string
				Repeated int
			}
			if err := decoder.Decode(&line); err != nil {
				t.Fatal(err)
			}
			if line.Msg != "It is not reachable yet; trying again" || line.Error != "dial: connection refused" {
				t.Errorf("it logs %+v", line)
			}
			logged, counted = logged+1, counted+max(1, line.Repeated)
		}
		if logged != 5 || counted != 100 { // at once, after each of three minutes, and what was left
			t.Errorf("100 tries in 200 seconds make %d lines that count %d; want 5 that count 100", logged, counted)
		}
	})
}

func TestARetryEndsWithItsContextOrAFinalError(t *testing.T) {
	t.Parallel()
	refused := errors.New("refused")
	r := retry{
		words: error.Error, log: slog.New(slog.DiscardHandler), pause: time.Hour,
		final: func(err error) bool { return errors.Is(err, refused) },
	}
	if err := r.do(t.Context(), func(context.Context) error { return refused }); !errors.Is(err, refused) {
		t.Errorf("an error that a retry can't fix: %v, want that error", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	away := errors.New("away")
	if err := r.do(ctx, func(context.Context) error { cancel(); return away }); !errors.Is(err, away) {
		t.Errorf("a cancelled try: %v, want its error", err)
	}
}
