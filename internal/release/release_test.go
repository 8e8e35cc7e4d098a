package release

import (
	"os"
	"path/filepath"
	"runtime/debug"
	"testing"
	"time"
)

func TestCommitNamesTheRelease(t *testing.T) {
	settings := func(modified string) []debug.BuildSetting {
		return []debug.BuildSetting{
			{Key: "vcs.revision", Value: "8945bc2d1f0a4b6c8e90123456789abcdef01234"},
			{Key: "vcs.time", Value: "2026-11-24T20:45:47Z"}, {Key: "vcs.modified", Value: modified},
		}
	}
	if got, want := committed(settings("false")), "20261124T204547-8945bc2d1f0a"; got != want {
		t.Errorf("the release is named %s, want %s", got, want)
	}
	for _, unnamed := range [][]debug.BuildSetting{settings("true"), nil} {
		if got := committed(unnamed); got != "" {
			t.Errorf("with %v, the release is named %s, want no name", unnamed, got)
		}
	}
}

func TestTimeAndContentNameTheRelease(t *testing.T) {
	path := filepath.Join(t.TempDir(), "narthex")
	if err := os.WriteFile(path, []byte("abc"), 0o700); err != nil {
		t.Fatal(err)
	}
	at := time.Date(2026, 11, 24, 21, 45, 47, 0, time.FixedZone("", 3600))
	if err := os.Chtimes(path, at, at); err != nil {
		t.Fatal(err)
	}
	got, err := ofFile(path)
	if want := "20261124T204547-ba7816bf8f01"; err != nil || got != want { // SHA-256 of abc
		t.Errorf("the release is named %s (%v), want %s", got, err, want)
	}
	if _, err := ofFile(path + "-missing"); err == nil {
		t.Error("a missing file has a name, want an error")
	}
	if _, err := ID(); err != nil {
		t.Errorf("this program has no name: %v", err)
	}
}
