package localpg

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// oldest is the oldest major version that Narthex supports.
const oldest = 15

// Programs is a folder of PostgreSQL's programs.
type Programs struct {
	Dir   string
	Major int // version
}

func (p Programs) path(name string) string { return filepath.Join(p.Dir, name) }

// UsualFolders lists where PostgreSQL's programs usually are, as patterns for Find: what PATH and
// pg_config say, then the folders of Debian's packages and of Homebrew's.
func UsualFolders() []string {
	var folders []string
	if postgres, err := exec.LookPath("postgres"); err == nil {
		folders = append(folders, filepath.Dir(postgres))
	}
	if bin, err := exec.Command("pg_config", "--bindir").Output(); err == nil {
		folders = append(folders, strings.TrimSpace(string(bin)))
	}
	return append(folders,
		"/usr/lib/postgresql/*/bin",
		"/opt/homebrew/opt/postgresql@*/bin",
		"/usr/local/opt/postgresql@*/bin",
	)
}

// Find returns the usable PostgreSQL installations in the folders that match the patterns, in the order
// of the patterns and, within a pattern, newest first. It leaves out those too old for Narthex.
func Find(patterns []string) []Programs {
	var all []Programs
	for _, pattern := range patterns {
		folders, _ := filepath.Glob(pattern) // its only error is a malformed pattern, which matches nothing
		var found []Programs
		for _, folder := range folders {
			if major := majorOf(folder); major >= oldest {
				found = append(found, Programs{Dir: folder, Major: major})
			}
		}
		slices.SortStableFunc(found, func(a, b Programs) int { return b.Major - a.Major })
		all = append(all, found...)
	}
	return all
}

var versionOutput = regexp.MustCompile(`\(PostgreSQL\) (\d+)`)

// majorOf returns the major version of the programs in a folder, or 0 if they are missing or broken.
func majorOf(folder string) int {
	if _, err := os.Stat(filepath.Join(folder, "initdb")); err != nil {
		return 0
	}
	output, err := exec.Command(filepath.Join(folder, "postgres"), "--version").Output()
	match := versionOutput.FindSubmatch(output)
	if err != nil || match == nil {
		return 0
	}
	major, _ := strconv.Atoi(string(match[1]))
	return major
}

// pick returns the first installation of the major version, or the first of all for 0.
func pick(found []Programs, major int) (Programs, bool) {
	i := slices.IndexFunc(found, func(p Programs) bool { return major == 0 || p.Major == major })
	if i < 0 {
		return Programs{}, false
	}
	return found[i], true
}
