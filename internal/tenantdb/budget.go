package tenantdb

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/semaphore"
)

// ErrBusy means that all connections to tenants' databases were in use for too long.
var ErrBusy = errors.New("all connections to tenants' databases are in use")

const (
	patience  = 1500 * time.Millisecond // a new connection waits this long for its turn
	dialLimit = 1500 * time.Millisecond // and the server may take this long to be reached
	roomPause = 50 * time.Millisecond   // between two checks for idle connections while a connection waits
)

// budget limits the connections of all pools together. It counts open sockets: a connection takes a place
// before it is dialled, and frees it when its socket is closed. Waiting connections are served in order.
type budget struct {
	size     int
	places   *semaphore.Weighted
	makeRoom func() // closes an idle connection, if there is one
	dialer   net.Dialer

	open, waiting, refused atomic.Int64
}

func newBudget(size int, makeRoom func()) *budget {
	return &budget{
		size: size, places: semaphore.NewWeighted(int64(size)), makeRoom: makeRoom,
		dialer: net.Dialer{Timeout: dialLimit, KeepAlive: time.Minute},
	}
}

// dial opens a connection that counts. Errors: ErrBusy, or why the server was not reached.
func (b *budget) dial(ctx context.Context, network, address string) (net.Conn, error) {
	if err := b.take(ctx); err != nil {
		return nil, err
	}
	conn, err := b.dialer.DialContext(ctx, network, address)
	if err != nil {
		b.give()
		return nil, err
	}
	return &countedConn{Conn: conn, give: sync.OnceFunc(b.give)}, nil
}

func (b *budget) take(ctx context.Context) error {
	if !b.places.TryAcquire(1) {
		if err := b.await(ctx); err != nil {
			return err
		}
	}
	b.open.Add(1)
	return nil
}

func (b *budget) await(ctx context.Context) error {
	b.waiting.Add(1)
	defer b.waiting.Add(-1)
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	go func() { // a connection may become idle while we look
		for ctx.Err() == nil {
			b.makeRoom()
			select {
			case <-ctx.Done():
			case <-time.After(roomPause):
			}
		}
	}()
	if err := b.places.Acquire(ctx, 1); err != nil {
		b.refused.Add(1)
		return fmt.Errorf("%w: %d are open", ErrBusy, b.open.Load())
	}
	return nil
}

func (b *budget) give() {
	b.open.Add(-1)
	b.places.Release(1)
}

// keep reports whether a connection that was returned to its pool may stay open.
func (b *budget) keep() bool { return b.waiting.Load() == 0 }

type countedConn struct {
	net.Conn
	give func()
}

func (c *countedConn) Close() error {
	err := c.Conn.Close()
	c.give()
	return err
}
