package localpg_test

import (
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"narthex/internal/dev/localpg"
)

// install makes programs that only print their version.
func install(t *testing.T, folder, version string, names ...string) {
	t.Helper()
	if err := os.MkdirAll(folder, 0o755); err != nil {
		t.Fatal(err)
	}
	for _, name := range names {
		script := fmt.Sprintf("#!/bin/sh\necho '%s (PostgreSQL) %s'\n", name, version)
		if err := os.WriteFile(filepath.Join(folder, name), []byte(script), 0o755); err != nil {
			t.Fatal(err)
		}
	}
}

func TestFind(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	install(t, root+"/path", "16.2", "postgres", "initdb")
	install(t, root+"/lib/9.6/bin", "9.6.24", "postgres", "initdb")
	install(t, root+"/lib/14/bin", "14.9 (Debian 14.9-1)", "postgres", "initdb")
	install(t, root+"/lib/15/bin", "15.14 (Debian 15.14-0+deb12u1)", "postgres", "initdb")
	install(t, root+"/lib/18/bin", "18beta1", "postgres", "initdb")
	install(t, root+"/client/17/bin", "17.5", "initdb")
	install(t, root+"/broken/bin", "", "postgres", "initdb")

	for _, test := range []struct {
		name     string
		patterns []string
		want     []string
	}{
		{"a folder", []string{"/path"}, []string{"/path 16"}},
		{"newest first, old ones left out", []string{"/lib/*/bin"}, []string{"/lib/18/bin 18", "/lib/15/bin 15"}},
		{"in the order of the patterns", []string{"/path", "/lib/*/bin"}, []string{"/path 16", "/lib/18/bin 18", "/lib/15/bin 15"}},
		{"only old ones", []string{"/lib/14/bin", "/lib/9.6/bin"}, nil},
		{"no server, no version, no folder", []string{"/client/*/bin", "/broken/bin", "/missing"}, nil},
	} {
		t.Run(test.name, func(t *testing.T) {
			var patterns, got []string
			for _, pattern := range test.patterns {
				patterns = append(patterns, root+pattern)
			}
			for _, found := range localpg.Find(patterns) {
				got = append(got, fmt.Sprintf("%s %d", strings.TrimPrefix(found.Dir, root), found.Major))
			}
			if !reflect.DeepEqual(got, test.want) {
				t.Errorf("found %q: want %q", got, test.want)
			}
		})
	}
}

func TestDataOfAnotherVersion(t *testing.T) {
	t.Parallel()
	dir := folder(t)
	if err := os.MkdirAll(filepath.Join(dir, "data"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "data", "PG_VERSION"), []byte("99\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	_, err := localpg.Start(t.Context(), localpg.Options{Dir: dir})
	want := fmt.Sprintf("the data in %s needs PostgreSQL 99, but it is not installed here", dir)
	if err == nil || !strings.HasPrefix(err.Error(), want) {
		t.Errorf("the error is %v: want %q", err, want)
	}
}
