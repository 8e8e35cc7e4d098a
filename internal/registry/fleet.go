package registry

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"

	"narthex/internal/fleet"
	"narthex/internal/postgres"
)

const (
	fleetPage = 500 // churches

	hasDatabase      = `status NOT IN ('provisioning', 'deleted')`
	selectFleet      = `SELECT id, database_name, database_host, database_port, schema_version FROM tenants WHERE ` + hasDatabase
	selectFleetAfter = selectFleet + ` AND id > $1 ORDER BY id LIMIT $2`
	selectFleetOne   = selectFleet + ` AND id = $1`
)

// FleetAfter returns the next churches after an id that have a database, in the order of ids.
func (r *Registry) FleetAfter(ctx context.Context, id string) ([]fleet.Church, error) {
	churches, err := postgres.All(ctx, r.pool, scanFleetChurch, selectFleetAfter, id, fleetPage)
	if err != nil {
		return nil, fmt.Errorf("list churches' databases: %w", err)
	}
	return churches, nil
}

// FleetChurch returns a church that has a database. Errors: ErrNotFound.
func (r *Registry) FleetChurch(ctx context.Context, id string) (fleet.Church, error) {
	church, err := postgres.One(ctx, r.pool, scanFleetChurch, selectFleetOne, id)
	if errors.Is(err, pgx.ErrNoRows) {
		return fleet.Church{}, fmt.Errorf("church: %w", ErrNotFound)
	}
	if err != nil {
		return fleet.Church{}, fmt.Errorf("look up a church's database: %w", err)
	}
	return church, nil
}

func scanFleetChurch(row pgx.CollectableRow) (c fleet.Church, err error) {
	var host string
	var port int
	err = row.Scan(&c.ID, &c.Database, &host, &port, &c.Version)
	c.Server = postgres.ServerName(host, port)
	return c, err
}
