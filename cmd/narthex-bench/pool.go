package main

import (
	"context"
	"errors"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
)

const (
	// poolSize is how many databases `narthex serve` keeps ready: as many as it does by default.
	poolSize = 32

	poolPatience = 2 * time.Minute
)

// warmPool is the pool of ready databases. A signup that takes one from it has another made later: what that
// costs must hit no other variant's samples.
type warmPool struct{ registry *pgxpool.Pool }

// atRest returns when nothing is made: at once while the stock is far from low, else once it is full.
func (p warmPool) atRest(ctx context.Context) error {
	stock, err := p.stock(ctx)
	if err != nil || stock >= poolSize/2 {
		return err
	}
	return p.full(ctx)
}

// full returns once the pool is full.
func (p warmPool) full(ctx context.Context) error {
	ctx, cancel := context.WithTimeoutCause(ctx, poolPatience, errors.New("the pool of databases did not fill up in time"))
	defer cancel()
	for {
		stock, err := p.stock(ctx)
		if err != nil || stock >= poolSize {
			return err
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(50 * time.Millisecond):
		}
	}
}

func (p warmPool) stock(ctx context.Context) (stock int, err error) {
	err = p.registry.QueryRow(ctx, `SELECT count(*) FROM database_pool`).Scan(&stock)
	return stock, err
}
