package localpg_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"narthex/internal/dev/localpg"
)

func TestFolderThatPostgresCannotReach(t *testing.T) {
	t.Parallel()
	if os.Geteuid() != 0 {
		t.Skip("only root's PostgreSQL runs as another user")
	}
	dir, err := os.MkdirTemp("", "narthex-localpg-") // mode 0700: root alone may pass
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	var told string
	options := localpg.Options{
		Dir: filepath.Join(dir, "postgres"), Ephemeral: true,
		Log: func(format string, args ...any) { told += fmt.Sprintf(format, args...) },
	}
	server, err := localpg.Start(t.Context(), options)
	if err != nil {
		t.Fatal(err)
	}
	data := ask(t, server.AdminURL(), "SHOW data_directory")
	if err := server.Stop(); err != nil {
		t.Error(err)
	}
	shelter := filepath.Dir(data)
	if !strings.HasPrefix(shelter, "/var/tmp/narthex-pg-") || !strings.Contains(told, shelter) {
		t.Errorf("the data was in %s, and the log says %q", data, told)
	}
	if _, err := os.Stat(shelter); !os.IsNotExist(err) {
		t.Errorf("%s was left behind", shelter)
	}

	note := filepath.Join(options.Dir, "moved-to")
	if where, err := os.ReadFile(note); err != nil || string(where) != shelter {
		t.Errorf("%s says %q (%v), want %q", note, where, err, shelter)
	}
	wantOtherUsersFolderRefused(t, shelter, options)
}

// wantOtherUsersFolderRefused gives the folder in which the data was to another user. Start must refuse it and leave it alone.
func wantOtherUsersFolderRefused(t *testing.T, shelter string, options localpg.Options) {
	t.Helper()
	const stranger = 54321
	if err := os.Mkdir(shelter, 0o700); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(shelter) })
	if err := os.Chown(shelter, stranger, stranger); err != nil {
		t.Fatal(err)
	}
	_, err := localpg.Start(t.Context(), options)
	if err == nil || !strings.HasPrefix(err.Error(), shelter+" is not a folder of user ") {
		t.Errorf("another user's folder: the error is %v", err)
	}
	if _, err := os.Stat(shelter); err != nil {
		t.Errorf("another user's folder: %v", err)
	}
}
