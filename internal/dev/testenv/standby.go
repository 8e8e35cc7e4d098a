package testenv

import (
	"context"
	"encoding/binary"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"
)

// Standby receives a server's WAL as a standby does, and discards it.
type Standby struct {
	t       testing.TB
	conn    *pgconn.PgConn
	stalled atomic.Bool
}

// NewStandby connects to the server at a superuser's URL. It stays connected until the test ends.
func NewStandby(t testing.TB, url string) *Standby {
	t.Helper()
	s := &Standby{t: t}
	config, err := pgconn.ParseConfig(url)
	if err != nil {
		t.Fatal(err)
	}
	config.RuntimeParams["replication"] = "true"
	s.conn, err = pgconn.ConnectConfig(t.Context(), config)
	if err != nil {
		t.Fatal(err)
	}
	results, err := s.conn.Exec(t.Context(), "IDENTIFY_SYSTEM").ReadAll()
	if err != nil {
		t.Fatal(err)
	}
	s.conn.Frontend().Send(&pgproto3.Query{String: "START_REPLICATION PHYSICAL " + string(results[0].Rows[0][2])})
	if err := s.conn.Frontend().Flush(); err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		s.follow(ctx)
	}()
	t.Cleanup(func() {
		stop()
		<-ended
		_ = s.conn.Close(context.Background()) // the server notices that it is gone
	})
	return s
}

// Stall makes the standby stop applying WAL, or continue.
func (s *Standby) Stall(stall bool) { s.stalled.Store(stall) }

const statusPause = 20 * time.Millisecond

func (s *Standby) follow(ctx context.Context) {
	var sent, applied uint64
	for ctx.Err() == nil {
		moment, cancel := context.WithTimeout(ctx, statusPause)
		message, err := s.conn.ReceiveMessage(moment)
		cancel()
		if data, ok := message.(*pgproto3.CopyData); ok && data.Data[0] == 'w' { // start, end, time, WAL
			sent = binary.BigEndian.Uint64(data.Data[1:]) + uint64(len(data.Data)-25)
		}
		if err != nil && !pgconn.Timeout(err) {
			if ctx.Err() == nil {
				s.t.Errorf("the standby was disconnected: %v", err)
			}
			return
		}
		if !s.stalled.Load() {
			applied = sent
		}
		if err := s.report(sent, applied); err != nil {
			return
		}
	}
}

// report tells the server what was written, flushed and applied.
func (s *Standby) report(sent, applied uint64) error {
	status := []byte{'r'}
	for _, position := range []uint64{sent, sent, applied, 0} { // the last is a time, which the server ignores
		status = binary.BigEndian.AppendUint64(status, position)
	}
	s.conn.Frontend().Send(&pgproto3.CopyData{Data: append(status, 0)})
	return s.conn.Frontend().Flush()
}
