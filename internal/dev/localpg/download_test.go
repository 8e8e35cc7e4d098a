package localpg_test

import (
	"archive/tar"
	"archive/zip"
	"bytes"
	"crypto/sha256"
	"fmt"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"

	"narthex/internal/dev/localpg"
)

func TestDownload(t *testing.T) {
	installed := localpg.Find(localpg.UsualFolders())
	if len(installed) == 0 {
		t.Skip("the test's download runs an installed PostgreSQL, and there is none")
	}
	jar := zipped(t, "postgres-test.txz", storedXZ(tarred(t, map[string]string{
		"bin/postgres": "#!/bin/sh\n[ \"$1\" = --version ] && echo 'postgres (PostgreSQL) 17.5' || " +
			"exec " + installed[0].Dir + "/postgres \"$@\"\n",
		"bin/initdb": "#!/bin/sh\nexec " + installed[0].Dir + "/initdb \"$@\"\n",
	})))
	maven := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case !strings.HasPrefix(r.URL.Path, "/io/zonky/test/postgres/embedded-postgres-binaries-") || !strings.Contains(r.URL.Path, "/17."):
			http.NotFound(w, r)
		case strings.HasSuffix(r.URL.Path, ".jar"):
			_, _ = w.Write(jar)
		case strings.HasSuffix(r.URL.Path, ".jar.sha256"):
			fmt.Fprintf(w, "%x", sha256.Sum256(jar))
		}
	}))
	defer maven.Close()

	dir := folder(t)
	t.Setenv("TMPDIR", t.TempDir()) // the library leaves its log there
	server := start(t, localpg.Options{Dir: dir, Ephemeral: true, Programs: []string{}, Repository: maven.URL})
	if got := ask(t, server.AdminURL(), "SELECT 'answers'"); got != "answers" {
		t.Error(got)
	}
	if left, _ := filepath.Glob(filepath.Join(dir, "download-*")); left != nil {
		t.Errorf("%q was left behind", left)
	}
	found := localpg.Find([]string{filepath.Join(dir, "postgresql-*", "bin")})
	if len(found) != 1 || found[0].Major != 17 {
		t.Errorf("Find returns %v, want one installation of version 17", found)
	}
}

func TestDownloadFails(t *testing.T) {
	maven := httptest.NewServer(http.NotFoundHandler())
	gone := maven.URL
	maven.Close()
	dir := folder(t)
	t.Setenv("TMPDIR", t.TempDir()) // the library leaves its log there
	_, err := localpg.Start(t.Context(), localpg.Options{Dir: dir, Programs: []string{}, Repository: gone})
	if err == nil {
		t.Fatal("a server was started without programs")
	}
	for _, part := range []string{
		"PostgreSQL 15 or newer is needed, but it is not installed here and cannot be downloaded " +
			"(unable to connect to " + gone + "): install it with `",
		"`, or set DATABASE_URL to the URL of a server",
	} {
		if !strings.Contains(err.Error(), part) {
			t.Errorf("the error is %v: want %q in it", err, part)
		}
	}
}

func zipped(t *testing.T, name string, content []byte) []byte {
	t.Helper()
	var archive bytes.Buffer
	w := zip.NewWriter(&archive)
	file, err := w.Create(name)
	if err == nil {
		_, err = file.Write(content)
	}
	if err == nil {
		err = w.Close()
	}
	if err != nil {
		t.Fatal(err)
	}
	return archive.Bytes()
}

func tarred(t *testing.T, files map[string]string) []byte {
	t.Helper()
	var archive bytes.Buffer
	w := tar.NewWriter(&archive)
	for name, content := range files {
		if err := w.WriteHeader(&tar.Header{Name: name, Mode: 0o755, Size: int64(len(content))}); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write([]byte(content)); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return archive.Bytes()
}
