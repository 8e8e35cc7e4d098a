package main

import (
	"errors"
	"regexp"
	"strconv"
	"time"

	"github.com/spf13/cobra"
)

// moment is the value of a flag that names a time.
type moment struct {
	time.Time
	text string
}

// momentFlag adds a flag that accepts what parseSince accepts.
func momentFlag(cmd *cobra.Command, m *moment, name, usage string) {
	cmd.Flags().Var(m, name, usage+": `TIME` is like 24h or 7d (ago), 2026-11-26 or 2026-11-26T09:00:00Z (UTC)")
}

// Set parses a flag's text.
func (m *moment) Set(text string) error {
	at, err := parseSince(text, time.Now())
	*m = moment{at, text}
	return err
}

// String returns the flag's text.
func (m *moment) String() string { return m.text }

// Type names the kind of the flag.
func (m *moment) Type() string { return "time" }

var (
	errMoment = errors.New("it must be like 24h, 7d, 2026-11-26 or 2026-11-26T09:00:00Z")
	days      = regexp.MustCompile(`^(\d{1,5})d(.*)$`)
)

// parseSince returns the time that text names: a duration before now (24h, 7d, 1d12h), a day in UTC, which means its
// midnight, or a point in time. It is never after now.
func parseSince(text string, now time.Time) (time.Time, error) {
	for _, layout := range []string{time.DateOnly, time.RFC3339, timeLayout} {
		if at, err := time.Parse(layout, text); err == nil {
			return notAfter(at.UTC(), now)
		}
	}
	rest := text
	ago := time.Duration(0)
	if match := days.FindStringSubmatch(text); match != nil {
		n, err := strconv.Atoi(match[1])
		if err != nil {
			return time.Time{}, errMoment
		}
		ago, rest = time.Duration(n)*24*time.Hour, match[2]
	}
	if rest != "" {
		d, err := time.ParseDuration(rest)
		if err != nil {
			return time.Time{}, errMoment
		}
		ago += d
	}
	if ago <= 0 {
		return time.Time{}, errMoment
	}
	return now.UTC().Add(-ago), nil
}

func notAfter(at, now time.Time) (time.Time, error) {
	if at.After(now) {
		return time.Time{}, errors.New("it is in the future")
	}
	return at, nil
}

// timeLayout is the layout in which times are printed and accepted.
const timeLayout = "2006-01-02 15:04:05Z"

func inUTC(t time.Time) string { return t.UTC().Format(timeLayout) }
