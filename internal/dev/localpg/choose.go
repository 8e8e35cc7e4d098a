package localpg

import (
	"cmp"
	"context"
	"fmt"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
)

// choosePrograms picks the programs that the data folder needs, and downloads them if there are none.
func choosePrograms(ctx context.Context, f folder, options Options) (Programs, error) {
	major, err := f.major()
	if err != nil {
		return Programs{}, err
	}
	patterns := options.Programs
	if patterns == nil {
		patterns = UsualFolders()
	}
	downloaded := filepath.Join(f.path, "postgresql-*", "bin")
	if programs, ok := pick(Find(append([]string{downloaded}, patterns...)), major); ok {
		return programs, nil
	}
	wanted, needs := major, fmt.Sprintf("the data in %s needs PostgreSQL %d", f.path, major)
	otherwise := "choose another data folder"
	if major == 0 {
		wanted, needs = preferred, fmt.Sprintf("PostgreSQL %d or newer is needed", oldest)
		otherwise = "set DATABASE_URL to the URL of a server"
	}
	options.Log("PostgreSQL %d is not installed here: downloading it, once", wanted)
	programs, err := download(ctx, f.path, wanted, options.Repository)
	if err != nil {
		return Programs{}, fmt.Errorf("%s, but it is not installed here and cannot be downloaded (%w): install it with `%s`, or %s",
			needs, err, installCommand(major), otherwise)
	}
	return programs, nil
}

// installCommand returns the command that installs PostgreSQL here: that major version, or the system's default for 0.
func installCommand(major int) string {
	version := ""
	if major != 0 {
		version = strconv.Itoa(major)
	}
	has := func(program string) bool {
		_, err := exec.LookPath(program)
		return err == nil
	}
	switch {
	case runtime.GOOS == "darwin":
		return "brew install postgresql@" + strconv.Itoa(cmp.Or(major, preferred))
	case has("apk"):
		return "apk add postgresql" + version
	case has("dnf"):
		return "dnf install postgresql" + version + "-server"
	case has("pacman"):
		return "pacman -S postgresql"
	case major != 0:
		return "apt-get install postgresql-" + version
	default:
		return "apt-get install postgresql"
	}
}
