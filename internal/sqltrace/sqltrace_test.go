package sqltrace

import "testing"

func TestOperation(t *testing.T) {
	for statement, want := range map[string]string{
		"SELECT password_hash FROM admins":                        "SELECT",
		"\n\t\tinsert INTO admins VALUES ('Pat')":                 "INSERT",
		"\n\tCREATE ROLE tenant_x LOGIN PASSWORD 'SCRAM-SHA-256'": "CREATE ROLE",
		"begin":            "BEGIN",
		"DROP\tDATABASE x": "DROP DATABASE",
		"/* Pat */ SELECT": "SQL",
		"":                 "SQL",
	} {
		if got := operation(statement); got != want {
			t.Errorf("%q is a %s, want %s", statement, got, want)
		}
	}
}
