package tenantserver

import (
	"context"

	"narthex/internal/catalog"
)

// Catalog reads the catalog of the server's database of a name, as Narthex's role, without the facts if its fingerprint
// is known.
func (s *Server) Catalog(ctx context.Context, name, known string) (catalog.Catalog, error) {
	conn, err := s.connect(ctx, name, catalog.Settings)
	if err != nil {
		return catalog.Catalog{}, err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	return catalog.Read(ctx, conn, known)
}
