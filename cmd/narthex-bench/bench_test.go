package main

import (
	"encoding/xml"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"narthex/internal/dev/testenv"
)

func TestMain(m *testing.M) { testenv.MainOfPrograms(m) }

// figureRows are the rows of figures that have a goal.
var figureRows = regexp.MustCompile(`(?m)^\| ([^|]+) \| ([^|]*?)(?: MiB| ms)? \| [≤≥] [^|]+ \| (?:met|missed) \|$`)

// TestEveryFigureHasANumber runs the benchmarks with few samples. It checks nothing about speed.
func TestEveryFigureHasANumber(t *testing.T) {
	t.Parallel()
	temporary, out := testenv.Folder(t), t.TempDir()
	r := testenv.Start(t, []string{"TMPDIR=" + temporary}, "narthex-bench", "-n", "3", "--tenants", "3", "--out", out)
	if code := r.Exit(); code != 0 {
		t.Fatalf("the exit status is %d, want 0", code)
	}
	report, err := os.ReadFile(filepath.Join(out, "last-run.md"))
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(r.Output(), string(report)) {
		t.Error("the printed report differs from the written one")
	}
	rows := figureRows.FindAllStringSubmatch(string(report), -1)
	for _, row := range rows {
		if value, err := strconv.ParseFloat(row[2], 64); err != nil || value <= 0 {
			t.Errorf("%s: %s, want a number", row[1], row[2])
		}
	}
	if len(rows) != 12 {
		t.Errorf("%d figures have a goal, want 12:\n%s", len(rows), report)
	}
	wantWellFormed(t, filepath.Join(out, "last-run.svg"))
	wantNothingLeft(t, temporary)
}

func TestCtrlCLeavesNothing(t *testing.T) {
	t.Parallel()
	temporary := testenv.Folder(t)
	r := testenv.Start(t, []string{"TMPDIR=" + temporary}, "narthex-bench", "--only", "memory")
	r.WaitFor("Signing 10 churches up.")
	r.Signal(os.Interrupt)
	if code := r.Exit(); code != 1 || !strings.Contains(r.Output(), "narthex-bench: stopped before everything was measured\n") {
		t.Errorf("after Ctrl-C the exit status is %d, want 1 and a sentence", code)
	}
	wantNothingLeft(t, temporary)
}

func TestRefusals(t *testing.T) {
	t.Parallel()
	for arguments, want := range map[string]string{
		"--only speed": "narthex-bench: --only speed: the figures are alone, engine, burst, login, read, growth, memory, fleet\n",
		"-n 0":         "narthex-bench: -n and --tenants must be at least 1\n",
	} {
		r := testenv.Start(t, nil, "narthex-bench", strings.Fields(arguments)...)
		if code := r.Exit(); code != 1 || r.Output() != want {
			t.Errorf("narthex-bench %s: status %d, it prints %q; want 1 and %q", arguments, code, r.Output(), want)
		}
	}
}

func wantWellFormed(t *testing.T, path string) {
	t.Helper()
	file, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	decoder := xml.NewDecoder(file)
	for err == nil {
		_, err = decoder.Token()
	}
	if err != io.EOF {
		t.Errorf("%s is not well-formed: %v", path, err)
	}
}

// wantNothingLeft checks that the run's folder, which holds all data, is gone.
func wantNothingLeft(t *testing.T, temporary string) {
	t.Helper()
	if left, _ := filepath.Glob(filepath.Join(temporary, "narthex-bench-*")); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}
