package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// figure is a number that has a goal, or one to compare with such a number.
type figure struct {
	what    string
	value   float64
	unit    string
	goal    float64 // 0 means none
	atLeast bool    // the goal is a minimum, not a maximum
}

// met reports whether the figure, as printed, meets its goal.
func (f figure) met() bool {
	printed := f.rounded()
	if f.atLeast {
		return printed >= f.goal
	}
	return printed <= f.goal
}

func (f figure) rounded() (value float64) {
	_, _ = fmt.Sscan(f.number(), &value)
	return value
}

func (f figure) number() string {
	if f.unit == "" {
		return fmt.Sprintf("%.2f", f.value)
	}
	return fmt.Sprintf("%.0f", f.value)
}

// row is the figure's row in a Markdown table.
func (f figure) row() string {
	if f.goal == 0 {
		return fmt.Sprintf("| %s | %s%s | | |\n", f.what, f.number(), f.unit)
	}
	bound, verdict := "≤", "missed"
	if f.atLeast {
		bound = "≥"
	}
	if f.met() {
		verdict = "met"
	}
	return fmt.Sprintf("| %s | %s%s | %s %g%s | %s |\n", f.what, f.number(), f.unit, bound, f.goal, f.unit, verdict)
}

// report is the result of a run.
type report struct {
	host         []string
	began        time.Time
	figures      []figure
	times, rates []*variant // what has samples, and what has throughputs
}

func newReport(ctx context.Context, s *stack) (*report, error) {
	r := &report{began: time.Now()}
	var err error
	r.host, err = host(ctx, s)
	return r, err
}

func (r *report) markdown() string {
	var out strings.Builder
	fmt.Fprintf(&out, "%s. On %s\n\n", r.began.UTC().Format(time.DateOnly), strings.Join(r.host, "; "))
	fmt.Fprint(&out, "| figure | measured | goal | |\n|---|---|---|---|\n")
	for _, f := range r.figures {
		fmt.Fprint(&out, f.row())
	}
	if len(r.times) > 0 {
		fmt.Fprint(&out, "\n| took | samples | p50 | p95 |\n|---|---|---|---|\n")
		for _, v := range r.times {
			fmt.Fprintf(&out, "| %s | %d | %s | %s |\n", v.name, len(v.times), inMilliseconds(v.times.p50()), inMilliseconds(v.times.p95()))
		}
	}
	if len(r.rates) > 0 {
		fmt.Fprint(&out, "\n| at once | rounds | a second |\n|---|---|---|\n")
		for _, v := range r.rates {
			fmt.Fprintf(&out, "| %s | %s | %.1f |\n", v.name, fmt.Sprintf("%d of %d", len(v.burst.rounds), v.burst.size), v.burst.perSecond())
		}
	}
	return out.String()
}

// write writes the report and its plot to a folder.
func (r *report) write(folder string) error {
	plot, err := r.plot()
	if err == nil {
		err = os.WriteFile(filepath.Join(folder, "last-run.svg"), plot, 0o644)
	}
	if err == nil {
		err = os.WriteFile(filepath.Join(folder, "last-run.md"), []byte(r.markdown()), 0o644)
	}
	return err
}

// inMilliseconds formats a duration with three significant digits.
func inMilliseconds(d time.Duration) string {
	return fmt.Sprintf("%s ms", threeDigits(float64(d)/float64(time.Millisecond)))
}

func threeDigits(x float64) string {
	switch {
	case x >= 100:
		return fmt.Sprintf("%.0f", x)
	case x >= 10:
		return fmt.Sprintf("%.1f", x)
	}
	return fmt.Sprintf("%.2f", x)
}
