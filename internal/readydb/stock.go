package readydb

import "time"

// quiet is how long no database must have been claimed before a stock that isn't low is filled up, so that making
// databases doesn't slow a burst of signups.
const quiet = 5 * time.Second

// Stock watches how many databases are ready, and says when to make more. The zero value has seen nothing yet.
type Stock struct {
	ready int
	since time.Time // when ready last fell
}

// Missing takes in how many of size databases are ready now, and returns how many to make: as many as are missing, if
// the stock is low or nobody has claimed from it for a while, else none.
func (s *Stock) Missing(ready, size int, now time.Time) int {
	if s.since.IsZero() || ready < s.ready {
		s.since = now
	}
	s.ready = ready
	if ready >= low(size) && now.Sub(s.since) < quiet {
		return 0
	}
	*s = Stock{} // making takes a while: what is claimed meanwhile hasn't been seen
	return max(0, size-ready)
}

// low is the low-water mark: with fewer databases ready, more are made at once.
func low(size int) int { return (size + 3) / 4 }
