package services

import (
	"runtime"
	"strings"
	"testing"
)

// A file of the largest size costs no more than a few times its own size to parse, whatever is in it.
func TestParsingAnImportIsBounded(t *testing.T) {
	const header, most = "firstName,lastName,phone\n", 64 << 20
	for name, file := range map[string]string{
		"rows of one column":       header + strings.Repeat("a\n", maxImportBytes/2),
		"rows of empty columns":    header + strings.Repeat(",,\n", maxImportBytes/3),
		"one row of empty columns": header + strings.Repeat(",", maxImportBytes),
		"one row over many lines":  header + strings.Repeat("\"\n\",", maxImportBytes/4),
		"a header of columns":      strings.Repeat(",", maxImportBytes),
		"an open quote":            header + "\"" + strings.Repeat("\n", maxImportBytes),
	} {
		body := []byte(file[:min(len(file), maxImportBytes)])
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		_, wrong, err := parseMembers(body)
		runtime.ReadMemStats(&after)
		if err == nil && wrong.count == 0 {
			t.Errorf("%s: is taken", name)
		}
		if allocated := after.TotalAlloc - before.TotalAlloc; allocated > most {
			t.Errorf("%s: %d MiB were allocated, want at most %d", name, allocated>>20, most>>20)
		}
	}
}
