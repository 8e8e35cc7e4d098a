package main

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"narthex/internal/dev/program"
)

// TestDocs runs the command blocks of the documentation that are marked with "run", page by page on one development
// stack, and compares the shape of what they print with the block marked with "output" that follows:
//
//	```sh run
//	curl -s http://127.0.0.1:8080/healthz
//	```
//	```json output
//	{"status":"ok"}
//	```
//
// A page's blocks share one shell. "run poll" repeats a block for a while until its output fits. In an output block, "…"
// stands for any text, and a line with only "…" stands for any lines.
func TestDocs(t *testing.T) {
	t.Parallel()
	for _, tool := range []string{"bash", "curl", "jq", "psql"} {
		if _, err := exec.LookPath(tool); err != nil {
			t.Fatalf("the documentation uses %s: install it (apt-get install bash curl jq postgresql-client)", tool)
		}
	}
	pages, err := filepath.Glob("../../docs/*.md")
	if err != nil {
		t.Fatal(err)
	}
	narthex, err := program.Build("narthex")
	if err != nil {
		t.Fatal(err)
	}
	s := startStack(t, dataFolder(t))
	ran := 0
	for _, page := range append([]string{"../../README.md"}, pages...) {
		content, err := os.ReadFile(page)
		if err != nil {
			t.Fatal(err)
		}
		examples := examplesOf(string(content))
		if len(examples) == 0 {
			continue
		}
		ran += len(examples)
		t.Run(filepath.Base(page), func(t *testing.T) { runExamples(t, s, narthex, examples) })
	}
	if ran < 10 {
		t.Errorf("the documentation has %d command blocks that are run, want at least 10", ran)
	}
}

// example is a command block and the output that the page shows.
type example struct {
	line     int // of the page, for messages
	commands string
	poll     bool
	output   string
	shown    bool
}

var fences = regexp.MustCompile("(?ms)^```([^\n]*)\n(.*?)^```$")

func examplesOf(page string) []example {
	var examples []example
	for _, at := range fences.FindAllStringSubmatchIndex(page, -1) {
		words, body := strings.Fields(page[at[2]:at[3]]), page[at[4]:at[5]]
		switch {
		case slices.Contains(words, "run"):
			line := 1 + strings.Count(page[:at[0]], "\n")
			examples = append(examples, example{line: line, commands: body, poll: slices.Contains(words, "poll")})
		case slices.Contains(words, "output") && len(examples) > 0:
			examples[len(examples)-1].output, examples[len(examples)-1].shown = body, true
		}
	}
	return examples
}

func runExamples(t *testing.T, s *runningStack, narthex string, examples []example) {
	t.Helper()
	// The pages assume a stack that was started without flags. Replace what differs in this one.
	here := strings.NewReplacer("go run ./cmd/narthex ", narthex+" ", "http://127.0.0.1:8080", s.HTTP,
		"http://127.0.0.1:9464", s.Operations, "http://127.0.0.1:8233", s.UI, ".narthex/", s.dir+"/")
	sh := startShell(t)
	for _, e := range examples {
		printed := s.Output() // the command that starts the stack, which is already running
		if strings.TrimSpace(e.commands) != "go run ./cmd/narthex-dev" {
			printed = sh.run(t, here.Replace(e.commands), e.line)
		}
		for deadline := time.Now().Add(time.Minute); e.poll && !fits(printed, e.output) && time.Now().Before(deadline); {
			time.Sleep(200 * time.Millisecond)
			printed = sh.run(t, here.Replace(e.commands), e.line)
		}
		if e.shown && !fits(printed, e.output) {
			t.Errorf("line %d:\n%sprints\n%swith the shape\n%s\nThe page shows a different shape:\n%s",
				e.line, e.commands, printed, shape(printed), shape(e.output))
		}
	}
}

// shell runs one block after another, and keeps variables and functions in between.
type shell struct {
	commands io.Writer
	printed  *bufio.Reader
}

func startShell(t *testing.T) *shell {
	t.Helper()
	cmd := exec.Command("bash")
	cmd.Dir, cmd.Env = t.TempDir(), program.NeutralEnvironment()
	commands, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	printed, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = commands.Close() // ends the shell
		_ = cmd.Wait()       // a block's failure has been reported
	})
	return &shell{commands: commands, printed: bufio.NewReader(printed)}
}

const endOfBlock = "end of block, status "

// run returns what the commands print, and fails the test if the last of them fails.
func (s *shell) run(t *testing.T, commands string, line int) string {
	t.Helper()
	if _, err := fmt.Fprintf(s.commands, "{ %s\n} </dev/null 2>&1; printf '\\n%s%%d\\n' $?\n", commands, endOfBlock); err != nil {
		t.Fatal(err)
	}
	var printed strings.Builder
	for {
		text, err := s.printed.ReadString('\n')
		if err != nil {
			t.Fatalf("line %d: the shell ended (%v) after it had printed\n%s%s", line, err, printed.String(), text)
		}
		if status, found := strings.CutPrefix(text, endOfBlock); found {
			if status != "0\n" {
				t.Fatalf("line %d: exit status %sof\n%sIt printed:\n%s", line, status, commands, printed.String())
			}
			return printed.String()
		}
		printed.WriteString(text)
	}
}

// changing is output that differs from run to run, or from machine to machine.
var changing = []struct {
	pattern     *regexp.Regexp
	placeholder string
}{
	{regexp.MustCompile(`\beyJ[\w.-]+…?`), "<token>"},
	{regexp.MustCompile(`("(?:refresh|invitation)Token": ?)"[\w-]+…?"`), `$1"<token>"`},
	{regexp.MustCompile(`\b[\w-]{100,}|\b[\w-]{16}…`), "<signup id>"},
	{regexp.MustCompile(`\b[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}\b`), "<uuid>"},
	{regexp.MustCompile(`\bsignup-[0-9a-f]{32,}`), "signup-<hash>"},
	{regexp.MustCompile(`(tenant_template_v\d+)_[0-9a-f]{12}\b`), "${1}_<hash>"},
	{regexp.MustCompile(`\b(tenant_)?01[0-9a-hjkmnp-tv-z]{24}\b`), "${1}<id>"},
	{regexp.MustCompile(`--env-file \S+`), "--env-file <file>"},
	{regexp.MustCompile(`\b\d{4}-\d\d-\d\d[ T]\d\d:\d\d:\d\d(\.\d+)?Z`), "<time>"},
	{regexp.MustCompile(`\b\d\d:\d\d:\d\d\.\d+`), "<time>"},
	{regexp.MustCompile(`\b(\d+m)?\d+(\.\d+)?(µs|ms|s)\b`), "<duration>"},
	{regexp.MustCompile(`\b127\.0\.0\.1:\d+`), "<address>"},
	{regexp.MustCompile(`(?m)^(  Data, log    ).*`), "${1}<folder>"},
	{regexp.MustCompile(`release \d{8}T\d{6}-[0-9a-f]{12}`), "release <release>"},
	{regexp.MustCompile(` +`), " "},
	{regexp.MustCompile(`(?m) $`), ""},
}

// shape returns output without what changes.
func shape(output string) string {
	for _, c := range changing {
		output = c.pattern.ReplaceAllString(output, c.placeholder)
	}
	return strings.TrimSpace(output)
}

// fits reports whether what was printed has the shape of what the page shows.
func fits(printed, shown string) bool {
	pattern := regexp.QuoteMeta(shape(shown))
	pattern = regexp.MustCompile(`(?m)^…(\n|$)`).ReplaceAllString(pattern, `(?s:.*)`)
	pattern = strings.ReplaceAll(pattern, "…", ".*")
	return regexp.MustCompile(`^` + pattern + `$`).MatchString(shape(printed))
}

// A page's output fits output of the same shape, and no other.
func TestFits(t *testing.T) {
	t.Parallel()
	shown := "STARTED  TENANT                      TOOK\n…\n2026-11-25 17:49:38Z  01m89x7m6zry4hep2a3rj5z1b8  319ms\nid AQ…: done\n"
	for printed, want := range map[string]bool{
		"STARTED TENANT TOOK\n2026-11-28 20:22:09Z 01m8hx51vhvkz8p3vcd00ywx00 1.2s\nid AQJo: done\n":                   true,
		"STARTED TENANT TOOK\nsome\nlines\n2026-11-28 20:22:09Z 01m8hx51vhvkz8p3vcd00ywx00 1m2s\nid AQJo: done\n":      true,
		"STARTED TENANT TOOK\n2026-11-28 20:22:09Z 01m8hx51vhvkz8p3vcd00ywx00 -\nid AQJo: done\n":                      false,
		"STARTED TENANT TOOK\n2026-11-28 20:22:09Z 01m8hx51vhvkz8p3vcd00ywx00 1.2s\nid AQJo: done\nand another line\n": false,
	} {
		if got := fits(printed, shown); got != want {
			t.Errorf("fits(%q) = %v, want %v", printed, got, want)
		}
	}
}
