package main

import (
	"testing"
	"time"
)

func TestParseSince(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 11, 28, 18, 30, 0, 0, time.FixedZone("Auckland", 13*3600)) // 05:30 UTC
	for text, want := range map[string]string{
		"24h": "2026-11-27 05:30:00Z", "90m": "2026-11-28 04:00:00Z", "1d": "2026-11-27 05:30:00Z", "7d": "2026-11-21 05:30:00Z",
		"1d12h": "2026-11-26 17:30:00Z", "2026-11-26": "2026-11-26 00:00:00Z", "2026-11-28": "2026-11-28 00:00:00Z",
		"2026-11-26T09:00:00Z": "2026-11-26 09:00:00Z", "2026-11-26T09:00:00+02:00": "2026-11-26 07:00:00Z",
		"2026-11-26 09:00:00Z": "2026-11-26 09:00:00Z", // as `signups list` prints it
	} {
		at, err := parseSince(text, now)
		if err != nil || inUTC(at) != want || at.Location() != time.UTC {
			t.Errorf("%s: %s (%v), want %s", text, at, err, want)
		}
	}
	for _, text := range []string{
		"", "0", "0d", "-1h", "-1d", "1d-48h", "d", "yesterday", "7", "99999999999d", "2026-13-01", "2026-11-29", "9999999h",
	} {
		if at, err := parseSince(text, now); err == nil {
			t.Errorf("%q: %s, want an error", text, at)
		}
	}
}
