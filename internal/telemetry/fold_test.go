package telemetry

import (
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"go.temporal.io/sdk/log"
	"go.temporal.io/sdk/temporal"

	"narthex/internal/config"
	"narthex/internal/dev/testenv"
)

func activityError(doing, cause string) error {
	return temporal.NewApplicationError(doing+": "+cause, "Database")
}

func TestErrorsThatRepeatAreALineAMinute(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var lines testenv.Log
		folding := NewFolding(NewLogger(&lines, config.Log{}).Handler())
		sdk := log.With(log.NewStructuredLogger(slog.New(folding)), "Namespace", "default")
		wantLines := func(want ...string) {
			t.Helper()
			got := strings.Split(strings.TrimSuffix(lines.Take(), "\n"), "\n")
			if len(got) != len(want) {
				t.Errorf("%d lines, want %d: %q", len(got), len(want), got)
				return
			}
			for i := range want {
				if !strings.Contains(got[i], want[i]) || !strings.Contains(got[i], `"Namespace":"default"`) {
					t.Errorf("line %d is %s, want %s in it", i, got[i], want[i])
				}
			}
		}
		for i := range 533 { // errors of all steps, as in an outage
			sdk.Error("Activity error.", "Attempt", i, "Error", activityError(fmt.Sprintf("step %d", i%8), "no connection to PostgreSQL"))
			time.Sleep(100 * time.Millisecond) // 53 seconds
		}
		wantLines(`"Attempt":0`)
		sdk.Error("Activity error.", "Error", activityError("create database", "another cause"))
		sdk.Info("Saga ended", "error", "no connection to PostgreSQL")
		sdk.Warn("Saga ended")
		sdk.Warn("Saga ended")
		wantLines("another cause", "Saga ended", "Saga ended", "Saga ended")
		time.Sleep(time.Minute)
		wantLines(`"repeated":532`)
		sdk.Error("Activity error.", "Error", activityError("create database", "no connection to PostgreSQL"))
		folding.Flush()
		wantLines(`"repeated":1`)
		folding.Flush()
		if twice := lines.Take(); twice != "" {
			t.Errorf("it is logged twice: %s", twice)
		}
		sdk.Error("Activity error.", "Error", activityError("create database", "no connection to PostgreSQL"))
		wantLines("no connection to PostgreSQL")
		time.Sleep(3 * time.Minute)
		sdk.Error("Activity error.", "Attempt", 9, "Error", activityError("create database", "no connection to PostgreSQL"))
		wantLines(`"Attempt":9`)
		folding.Flush()
	})
}
