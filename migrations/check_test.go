package migrations_test

import (
	"io/fs"
	"os"
	"path"
	"regexp"
	"strings"
	"testing"
	"testing/fstest"

	"narthex/internal/dev/migrationcheck"
	"narthex/migrations"
)

// The first versions to which the rules of docs/schema-changes.md apply. Earlier migrations have run, and stay as they are.
const (
	registryRulesFrom = 11 // 1 to 10 were written before the rules
	tenantRulesFrom   = 1  // all of them: the first creates every table, in a database that nobody uses yet
)

// A new migration that may harm a database in use is refused, unless it says why it can't.
func TestNewMigrationsAreSafe(t *testing.T) {
	t.Parallel()
	code, err := migrationcheck.Code("..")
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range []migrationcheck.Schema{
		{Name: "registry", Files: migrations.Registry, From: registryRulesFrom, Code: code},
		{Name: "tenant", Files: migrations.Tenant, From: tenantRulesFrom, Code: code},
		{Name: "testdata/planted_on", Files: example(t), From: 2, Code: code},
	} {
		findings, err := migrationcheck.Check(s)
		if err != nil {
			t.Fatal(err)
		}
		for _, finding := range findings {
			t.Error(finding)
		}
	}
}

// example returns the first tenant migration, followed by those of the example in docs/schema-changes.md.
func example(t *testing.T) fs.FS {
	t.Helper()
	files := first(t, migrations.Tenant)
	const folder = "testdata/planted_on"
	entries, err := os.ReadDir(folder)
	if err != nil {
		t.Fatal(err)
	}
	for _, entry := range entries {
		content, err := os.ReadFile(path.Join(folder, entry.Name()))
		if err != nil {
			t.Fatal(err)
		}
		files[entry.Name()] = &fstest.MapFile{Data: content}
	}
	return files
}

// first returns only a schema's first migration.
func first(t *testing.T, from fs.FS) fstest.MapFS {
	t.Helper()
	files := fstest.MapFS{}
	names, err := fs.Glob(from, "000001_*.sql")
	if err != nil || len(names) != 2 {
		t.Fatalf("there are %v (%v), want the first migration's up and down file", names, err)
	}
	for _, name := range names {
		content, err := fs.ReadFile(from, name)
		if err != nil {
			t.Fatal(err)
		}
		files[name] = &fstest.MapFile{Data: content}
	}
	return files
}

var quotedFile = regexp.MustCompile("(?m)^`(\\d{6}_[\\w.]+\\.sql)`:\n\n```sql\n((?:.*\n)*?)```$")

// The documentation quotes the example's files exactly, and has every rule.
func TestDocumentationIsUpToDate(t *testing.T) {
	t.Parallel()
	page, err := os.ReadFile("../docs/schema-changes.md")
	if err != nil {
		t.Fatal(err)
	}
	quoted := quotedFile.FindAllStringSubmatch(string(page), -1)
	if len(quoted) < 5 {
		t.Errorf("docs/schema-changes.md quotes %d files of the example, want at least 5", len(quoted))
	}
	for _, quote := range quoted {
		content, err := os.ReadFile("testdata/planted_on/" + quote[1])
		if err != nil || string(content) != quote[2] {
			t.Errorf("docs/schema-changes.md quotes %s as\n%s\nbut the file is (%v)\n%s", quote[1], quote[2], err, content)
		}
	}
	for _, rule := range migrationcheck.Rules {
		if !strings.Contains(string(page), "`"+rule+"`") {
			t.Errorf("docs/schema-changes.md has no rule %s", rule)
		}
	}
}
