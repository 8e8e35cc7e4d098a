package teststack

import (
	"sync/atomic"
	"time"
)

// Clock is the workers' clock, which a test can move.
type Clock struct{ ahead atomic.Int64 }

func (c *Clock) now() time.Time { return time.Now().Add(time.Duration(c.ahead.Load())) }

// Move moves the clock forwards.
func (c *Clock) Move(d time.Duration) { c.ahead.Add(int64(d)) }
