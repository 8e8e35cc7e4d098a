package tenantserver

import (
	"context"
	"sync"
	"time"

	"narthex/internal/catalog"
)

const (
	catalogLife  = 5 * time.Minute
	catalogLimit = time.Minute // to make a scratch database and read its catalog
)

// Catalog reads the catalog of a database on the server, as Narthex's role. If the fingerprint equals known, it leaves
// out the facts.
func (s *Server) Catalog(ctx context.Context, name, known string) (catalog.Catalog, error) {
	conn, err := s.connect(ctx, name, catalog.Settings)
	if err != nil {
		return catalog.Catalog{}, err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	return catalog.Read(ctx, conn, known)
}

// Comparer compares databases on one server with the newest schema. It is safe for concurrent use.
type Comparer struct {
	server *Server
	newest func() (catalog.Catalog, error)
}

// Comparer returns a Comparer. It reads the newest schema's catalog once, in a scratch database, when it is first needed.
func (s *Server) Comparer(ctx context.Context) *Comparer {
	newest := sync.OnceValues(func() (newest catalog.Catalog, err error) {
		ctx, cancel := context.WithTimeout(ctx, catalogLimit)
		defer cancel()
		err = s.InScratch(ctx, Scratch{Life: catalogLife}, func(name string) (err error) {
			newest, err = s.Catalog(ctx, name, "")
			return err
		})
		return newest, err
	})
	return &Comparer{server: s, newest: newest}
}

// Compare returns how a database's catalog differs from the newest schema's.
func (c *Comparer) Compare(ctx context.Context, name string) ([]catalog.Difference, error) {
	newest, err := c.newest()
	if err != nil {
		return nil, err
	}
	got, err := c.server.Catalog(ctx, name, newest.Fingerprint)
	if err != nil {
		return nil, err
	}
	return catalog.Compare(newest, got), nil
}
