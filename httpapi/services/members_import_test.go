package services

import (
	"runtime"
	"strings"
	"testing"
)

// To parse a file of the largest size takes at most a few times its size in memory, whatever it contains.
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
			t.Errorf("%s: it was accepted", name)
		}
		if allocated := after.TotalAlloc - before.TotalAlloc; allocated > most {
			t.Errorf("%s: %d MiB were allocated, want at most %d", name, allocated>>20, most>>20)
		}
	}
}
