package postgres

import (
	"context"
	"io"
	"net"
	"sync/atomic"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgproto3"

	"narthex/internal/sqlstate"
)

// answerLimit is how many bytes a database may send in answer to the last write. Catalogs and lists are far smaller.
const answerLimit = 16 << 20

// Distrust prepares a configuration for a database that somebody else controls. The settings of that role and database don't
// decide how text is encoded, and the database can't use up the process's memory: if its answer is larger than 16 MiB, the
// connection breaks with sqlstate.ErrAnswerTooLarge. Call it after DialFunc is set.
func Distrust(config *pgx.ConnConfig) {
	config.RuntimeParams["client_encoding"] = "UTF8"
	dial := config.DialFunc
	config.DialFunc = func(ctx context.Context, network, address string) (net.Conn, error) {
		conn, err := dial(ctx, network, address)
		if err != nil {
			return nil, err
		}
		return &limitedConn{Conn: conn}, nil
	}
	config.BuildFrontend = func(r io.Reader, w io.Writer) *pgproto3.Frontend {
		frontend := pgproto3.NewFrontend(r, w)
		frontend.SetMaxBodyLen(answerLimit) // pgx allocates memory for a whole message before it reads it
		return frontend
	}
}

type limitedConn struct {
	net.Conn
	read atomic.Int64 // since the last write
}

func (c *limitedConn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	if c.read.Add(int64(n)) > answerLimit {
		return 0, sqlstate.ErrAnswerTooLarge
	}
	return n, err
}

func (c *limitedConn) Write(p []byte) (int, error) {
	c.read.Store(0)
	return c.Conn.Write(p)
}
