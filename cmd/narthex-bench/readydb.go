package main

import (
	"context"
	"errors"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
)

const (
	// readySize is how many databases `narthex serve` keeps ready: its default.
	readySize = 32

	readyPatience = 2 * time.Minute
)

// readyDatabases is the stock of ready databases. When a signup claims one, another is made later. That cost must not
// affect another variant's samples.
type readyDatabases struct{ registry *pgxpool.Pool }

// atRest returns when no databases are being made: at once if the stock is far from low, otherwise once it is full.
func (r readyDatabases) atRest(ctx context.Context) error {
	stock, err := r.stock(ctx)
	if err != nil || stock >= readySize/2 {
		return err
	}
	return r.full(ctx)
}

// full returns once the stock is full.
func (r readyDatabases) full(ctx context.Context) error {
	ctx, cancel := context.WithTimeoutCause(ctx, readyPatience, errors.New("the stock of ready databases did not fill up in time"))
	defer cancel()
	for {
		stock, err := r.stock(ctx)
		if err != nil || stock >= readySize {
			return err
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(50 * time.Millisecond):
		}
	}
}

func (r readyDatabases) stock(ctx context.Context) (stock int, err error) {
	err = r.registry.QueryRow(ctx, `SELECT count(*) FROM database_pool`).Scan(&stock)
	return stock, err
}
