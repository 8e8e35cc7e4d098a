package migrationcheck_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/fstest"

	"narthex/internal/dev/migrationcheck"
)

// A column can't be removed while code may send its name to PostgreSQL.
func TestCodeThatNamesAColumn(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		code  string
		names bool
	}{
		"in a query":                  {"const q = `SELECT id, note FROM people`", true},
		"in another table's query":    {"const q = `SELECT id, note FROM groups`", false},
		"in the query's constant":     {"const columns = ` id, note `\nconst q = `SELECT` + columns + `FROM people`", true},
		"in another query's constant": {"const list = ` id, note `\nconst q = `SELECT id FROM people`\nconst r = `SELECT` + list", true},
		"in SELECT *":                 {"const q = `SELECT * FROM people`", true},
		"in RETURNING *":              {"const q = `UPDATE people SET age = 1 RETURNING *`", true},
		"in a longer name":            {"const q = `SELECT id, notes FROM people`", false},
		"in a list":                   {"var t = table{name: \"people\", columns: []string{\"id\", \"note\"}}", true},
		"in another table's list":     {"var t = table{name: \"groups\", columns: []string{\"id\", \"note\"}}", false},
		"in Sprintf's arguments":      {"var q = fmt.Sprintf(`SELECT %s FROM people`, ` id, note `)", true},
		"in prose":                    {"const q = `SELECT id FROM people`\nvar err = errors.New(\"a note: it's too long\")", false},
		"nowhere":                     {"const q = `SELECT id FROM people`", false},
	} {
		t.Run(name, func(t *testing.T) {
			folder := t.TempDir()
			write(t, folder, "people.go", "package people\n\n"+c.code+"\n")
			write(t, folder, "people_test.go", "package people\n\nconst q2 = `SELECT note FROM people`\n")
			code, err := migrationcheck.Code(folder)
			if err != nil {
				t.Fatal(err)
			}
			findings := check(t, migrationcheck.Schema{Name: "test", Files: removeNote, From: 4, Code: code})
			if c.names != (len(findings) == 1) {
				t.Errorf("%s\nthe removal of people.note is refused by %v, want it refused: %t", c.code, findings, c.names)
			}
			if c.names && !strings.Contains(findings[0].Says, "people.go:") {
				t.Errorf("the finding says %q, want the file and line", findings[0].Says)
			}
		})
	}
}

var removeNote = fstest.MapFS{
	"000001_first.up.sql":  {Data: []byte(`CREATE TABLE people (id text, note text)`)},
	"000004_remove.up.sql": {Data: []byte("-- contract: people.note unread since 2\nALTER TABLE people DROP COLUMN note")},
}

func write(t *testing.T, folder, name, content string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(folder, name), []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
}
