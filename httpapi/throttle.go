package httpapi

import (
	"net/netip"
	"time"

	"github.com/gin-gonic/gin"

	"narthex/internal/throttle"
)

// limits bound how often a route is called, by one client address and for one account.
type limits struct {
	route   string
	address throttle.Limit
	account throttle.Limit
}

var (
	registerLimits = limits{"register", throttle.Limit{Burst: 10, Every: time.Minute}, throttle.Limit{Burst: 5, Every: time.Minute}}
	loginLimits    = limits{"login", throttle.Limit{Burst: 30, Every: 2 * time.Second}, throttle.Limit{Burst: 10, Every: 30 * time.Second}}
	refreshLimits  = limits{"refresh", throttle.Limit{Burst: 60, Every: time.Second}, throttle.Limit{Burst: 30, Every: 5 * time.Second}}
)

// throttle counts a request for the client's address and, if known, for the account. All API
// processes share the counts. Errors: errTooMany.
func (a *api) throttle(c *gin.Context, l limits, account string) error {
	address, err := netip.ParseAddr(c.ClientIP())
	if err != nil {
		return err
	}
	address = address.Unmap()
	if a.SpareLoopback && address.IsLoopback() {
		return nil
	}
	if address.Is6() { // one client has a whole network of addresses
		network, _ := address.Prefix(64)
		address = network.Addr()
	}
	for _, counted := range []struct {
		kind, who string
		limit     throttle.Limit
	}{{"address", address.String(), l.address}, {"account", account, l.account}} {
		if counted.who == "" {
			continue
		}
		key, err := a.Keys.Fingerprint("throttle", l.route, counted.kind, counted.who)
		if err != nil {
			return err
		}
		wait, err := a.Throttle.Count(c.Request.Context(), key, counted.limit)
		if err != nil {
			return err
		}
		if wait > 0 {
			return errTooMany(wait)
		}
	}
	return nil
}
