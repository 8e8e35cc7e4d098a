package tenantdb

import (
	"context"
	"maps"
	"slices"
	"time"

	"narthex/internal/redact"
)

const (
	usePause = 5 * time.Minute // between two reports of which churches were used
	useLimit = 3 * time.Second // for a report
)

// reportUse reports to the registry every few minutes, and when ctx ends, which churches were used, so that requests need not.
// Runs over the fleet begin with the churches that were unused the longest.
func (r *Router) reportUse(ctx context.Context) {
	for ctx.Err() == nil {
		select {
		case <-ctx.Done():
		case <-time.After(usePause):
		}
		r.reportUsed(context.WithoutCancel(ctx))
	}
}

func (r *Router) reportUsed(ctx context.Context) {
	r.mu.Lock()
	used := r.used
	r.used = map[string]bool{}
	r.mu.Unlock()
	if len(used) == 0 {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, useLimit)
	defer cancel()
	err := r.registry.TouchTenants(ctx, slices.Collect(maps.Keys(used)))
	if err == nil {
		return
	}
	r.log.Warn("The use of churches could not be recorded in the registry; trying again later", "error", redact.Error(err))
	r.mu.Lock()
	defer r.mu.Unlock()
	maps.Copy(r.used, used)
}
