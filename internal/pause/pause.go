// Package pause waits. It owns the one way in which loops rest between two tries: for a
// time, and no longer than the context lives. It never waits for anything else.
package pause

import (
	"context"
	"time"
)

// For waits for d, which may be zero or less, or until the context ends. It returns the
// context's error if that has ended, and nil otherwise.
func For(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
	return ctx.Err()
}
