package main

import (
	"context"
	"errors"
	"sync"
	"time"
)

const (
	atOnce = 10 // clients
	warmUp = 3  // of each variant, before what is measured

	burstSize = 2 * atOnce // how often something is done in a round
)

// variant is one way to do something, and how long it took each time.
type variant struct {
	name  string
	do    func(context.Context) error
	times samples
	burst bursts
}

// alternate does each variant in turn, n times, so that what else the machine does hits all of them alike.
// Every round begins with another.
func alternate(ctx context.Context, n int, variants ...*variant) error {
	for round := -warmUp; round < n; round++ {
		for i := range variants {
			v := variants[(i+round+warmUp)%len(variants)]
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

// alternateBursts has clients do each variant at once, in rounds of one variant, about n times in all.
func alternateBursts(ctx context.Context, n int, variants ...*variant) error {
	size := min(burstSize, max(n, atOnce))
	for round := range max(1, n/size) {
		for i := range variants {
			v := variants[(i+round)%len(variants)]
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

// together does something n times, at most atOnce at a time. It ends with the first error.
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
