package main

import (
	"context"
	"errors"
	"sync"
	"time"
)

const (
	atOnce = 10 // clients
	warmUp = 3  // runs of each variant before the measured ones

	burstSize = 2 * atOnce // how often a round does something
)

// variant is one way to do something, and how long it took each time.
type variant struct {
	name  string
	do    func(context.Context) error
	times samples
	burst bursts
}

// alternate runs each variant in turn, n times, so that other load on the machine affects all of them alike.
// Every round begins with a different variant. alternate calls rest before each run; rest returns when no
// background work of an earlier run is left.
func alternate(ctx context.Context, n int, rest func(context.Context) error, variants ...*variant) error {
	for round := -warmUp; round < n; round++ {
		for i := range variants {
			v := variants[(i+round+warmUp)%len(variants)]
			if err := rest(ctx); err != nil {
				return err
			}
			begun := time.Now()
			if err := v.do(ctx); err != nil {
				return err
			}
			if round >= 0 {
				v.times = append(v.times, time.Since(begun))
			}
		}
	}
	return nil
}

// noRest is for variants that leave no background work.
func noRest(context.Context) error { return nil }

// alternateBursts has several clients run a variant at once, in rounds of one variant, about n times in all. rest
// is as for alternate.
func alternateBursts(ctx context.Context, n int, rest func(context.Context) error, variants ...*variant) error {
	size := min(burstSize, max(n, atOnce))
	for round := range max(1, n/size) {
		for i := range variants {
			v := variants[(i+round)%len(variants)]
			if err := rest(ctx); err != nil {
				return err
			}
			begun := time.Now()
			if err := together(ctx, size, v.do); err != nil {
				return err
			}
			v.burst.size = size
			v.burst.rounds = append(v.burst.rounds, time.Since(begun))
		}
	}
	return nil
}

// together does something n times, at most atOnce at a time. It stops at the first error.
func together(ctx context.Context, n int, do func(context.Context) error) error {
	ctx, fail := context.WithCancelCause(ctx)
	defer fail(nil)
	turns := make(chan struct{}, n)
	for range n {
		turns <- struct{}{}
	}
	close(turns)
	var clients sync.WaitGroup
	for range atOnce {
		clients.Go(func() {
			for range turns {
				if ctx.Err() != nil {
					return
				}
				if err := do(ctx); err != nil {
					fail(err)
				}
			}
		})
	}
	clients.Wait()
	if err := context.Cause(ctx); err != nil && !errors.Is(err, context.Canceled) {
		return err
	}
	return ctx.Err()
}
