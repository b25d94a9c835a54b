// Package clock is the time that the pipeline runs on. Everything in ingest,
// transform and sink takes its time from a Clock, so that the whole pipeline
// can run on a time that a test controls.
//
// It guarantees nothing about how a Clock's time relates to another
// machine's; what is ordered by time is ordered by the systems' own stamps.
package clock

import (
	"context"
	"time"
)

// Clock tells the time and waits.
type Clock interface {
	// Now returns the current time.
	Now() time.Time
	// After returns a channel that receives once, d from now.
	After(d time.Duration) <-chan time.Time
}

// System is the machine's own clock.
type System struct{}

// Now returns time.Now.
func (System) Now() time.Time { return time.Now() }

// After returns time.After.
func (System) After(d time.Duration) <-chan time.Time { return time.After(d) }

// Sleep waits for d on c and returns nil, or returns the context's cause as
// soon as ctx is done. A d of zero or less returns at once.
func Sleep(ctx context.Context, c Clock, d time.Duration) error {
	if d <= 0 {
		return context.Cause(ctx)
	}
	defer Waits(ctx)()
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-c.After(d):
		return nil
	}
}

type watchKey struct{}

// Watched returns a context whose waits are told: begin is called when one
// begins, and what it returns when that one is over.
func Watched(ctx context.Context, begin func() (over func())) context.Context {
	return context.WithValue(ctx, watchKey{}, begin)
}

// Waits says that the work under ctx waits for something that is not ours: the
// time, a system's answer, leave to call it. What it returns says that the wait
// is over, and is called once. [Sleep] does so itself.
func Waits(ctx context.Context) (over func()) {
	if begin, ok := ctx.Value(watchKey{}).(func() func()); ok {
		return begin()
	}
	return func() {}
}
