// Package migrations holds the schemas of the registry and of a tenant's database as golang-migrate
// migrations. It contains only the files: internal/schema applies them.
package migrations

import (
	"embed"
	"fmt"
	"io/fs"
	"path"
)

//go:embed registry/*.sql tenant/*.sql
var files embed.FS

// Registry and Tenant are the two schemas' migration files, named NNNNNN_title.{up,down}.sql.
var (
	Registry = folder("registry")
	Tenant   = folder("tenant")
)

func folder(name string) fs.FS {
	sub, err := fs.Sub(files, name)
	if err != nil {
		panic(err) // the folder is embedded above
	}
	return sub
}

// TenantOldest is the oldest tenant schema that this release's code works with: the newest or the one before, because
// churches are migrated while the release serves them.
const TenantOldest = 1

// TenantVersion returns the version of the newest tenant schema.
func TenantVersion() int { return Newest(Tenant) }

// RegistryVersion returns the version of the newest registry schema.
func RegistryVersion() int { return Newest(Registry) }

// Newest returns the version of the newest migration in files.
func Newest(files fs.FS) int {
	entries, err := fs.ReadDir(files, ".")
	if err != nil {
		panic(err) // the files are embedded
	}
	newest := 0
	for _, entry := range entries {
		var version int
		if _, err := fmt.Sscanf(path.Base(entry.Name()), "%d_", &version); err == nil {
			newest = max(newest, version)
		}
	}
	return newest
}
