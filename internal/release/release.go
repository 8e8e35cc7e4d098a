// Package release identifies the release of Narthex that a program is, and decides which release's workers
// get workflows from Temporal.
package release

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime/debug"
	"time"
)

const (
	timeFormat = "20060102T150405" // in UTC: names sort by age
	hashDigits = 12
)

// ID returns the name of this program's release, by time and content: those of the commit that it was built from
// or, if Go recorded none or there were uncommitted changes, those of the executable.
func ID() (string, error) {
	if build, ok := debug.ReadBuildInfo(); ok {
		if id := committed(build.Settings); id != "" {
			return id, nil
		}
	}
	path, err := os.Executable()
	if err != nil {
		return "", errUnnamed
	}
	return ofFile(path)
}

var errUnnamed = errors.New("this program cannot read its own file to name its release: set BUILD_ID")

// committed returns the name of a release by its commit, or "" if the settings name none.
func committed(settings []debug.BuildSetting) string {
	values := map[string]string{}
	for _, setting := range settings {
		values[setting.Key] = setting.Value
	}
	at, err := time.Parse(time.RFC3339, values["vcs.time"])
	revision := values["vcs.revision"]
	if err != nil || len(revision) < hashDigits || values["vcs.modified"] != "false" {
		return ""
	}
	return name(at, revision)
}

func ofFile(path string) (string, error) {
	file, err := os.Open(path)
	if err != nil {
		return "", errUnnamed
	}
	defer file.Close()
	info, err := file.Stat()
	if err != nil {
		return "", errUnnamed
	}
	hash := sha256.New()
	if _, err := io.Copy(hash, file); err != nil {
		return "", errUnnamed
	}
	return name(info.ModTime(), fmt.Sprintf("%x", hash.Sum(nil))), nil
}

func name(at time.Time, hash string) string {
	return at.UTC().Format(timeFormat) + "-" + hash[:hashDigits]
}
