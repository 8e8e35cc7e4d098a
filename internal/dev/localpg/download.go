package localpg

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	embedded "github.com/fergusstrange/embedded-postgres"
)

const (
	preferred     = 17 // the major version to download if any will do
	downloadLimit = 10 * time.Minute
)

// release is the release to download of each major version.
var release = map[int]embedded.PostgresVersion{15: embedded.V15, 16: embedded.V16, 17: embedded.V17, 18: embedded.V18}

// download puts PostgreSQL's programs into a folder below dir, whole or not at all.
func download(ctx context.Context, dir string, major int, repository string) (Programs, error) {
	version, ok := release[major]
	if !ok {
		return Programs{}, fmt.Errorf("no download of PostgreSQL %d is known", major)
	}
	draft, err := os.MkdirTemp(dir, "download-")
	if err != nil {
		return Programs{}, err
	}
	defer func() { _ = os.RemoveAll(draft) }()
	if err := fetch(ctx, draft, version, repository); err != nil {
		return Programs{}, err
	}
	target := filepath.Join(dir, fmt.Sprintf("postgresql-%d", major))
	if err := os.RemoveAll(target); err != nil {
		return Programs{}, err
	}
	if err := os.Rename(filepath.Join(draft, "programs"), target); err != nil {
		return Programs{}, err
	}
	programs := Programs{Dir: filepath.Join(target, "bin"), Major: major}
	if majorOf(programs.Dir) != major {
		return Programs{}, errors.New("the downloaded programs don't run on this system")
	}
	return programs, nil
}

// fetch has the library download and unpack the programs into draft. The library insists on starting a
// server too. That fails at once here, because its data folder would be below a file.
func fetch(ctx context.Context, draft string, version embedded.PostgresVersion, repository string) error {
	file := filepath.Join(draft, "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		return err
	}
	settings := embedded.DefaultConfig()
	if repository != "" {
		settings = settings.BinaryRepositoryURL(repository)
	}
	library := embedded.NewDatabase(settings.
		Version(version).
		CachePath(filepath.Join(draft, "cache")).
		RuntimePath(filepath.Join(draft, "runtime")).
		BinariesPath(filepath.Join(draft, "programs")).
		DataPath(filepath.Join(file, "data")).
		Port(0).
		Logger(io.Discard))
	ctx, cancel := context.WithTimeout(ctx, downloadLimit)
	defer cancel()
	done := make(chan error, 1)
	go func() { done <- library.Start() }()
	select {
	case <-ctx.Done(): // the library cannot be interrupted
		return ctx.Err()
	case err := <-done:
		if _, missing := os.Stat(filepath.Join(draft, "programs", "bin", "postgres")); missing != nil {
			return err
		}
		return nil
	}
}
