package readydb

import "time"

// quiet is how long there must be no claims before a stock that isn't low is filled up, so that making databases
// doesn't slow down a burst of signups.
const quiet = 5 * time.Second

// Stock tracks how many databases are ready, and says when to make more. The zero value has seen nothing yet.
type Stock struct {
	ready int
	since time.Time // when ready last fell
}

// Missing takes how many of size databases are ready now, and returns how many to make: all that are missing if the
// stock is low or nobody has claimed from it for a while, otherwise none.
func (s *Stock) Missing(ready, size int, now time.Time) int {
	if s.since.IsZero() || ready < s.ready {
		s.since = now
	}
	s.ready = ready
	if ready >= low(size) && now.Sub(s.since) < quiet {
		return 0
	}
	*s = Stock{} // making takes a while, and claims during that time are not seen
	return max(0, size-ready)
}

// low is the low-water mark: if fewer databases are ready, more are made at once.
func low(size int) int { return (size + 3) / 4 }
