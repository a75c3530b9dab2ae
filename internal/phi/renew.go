package phi

import (
	"context"
	"errors"
	"sync/atomic"
	"time"

	"github.com/caresphere/caresphere/internal/kms/driver"
)

// A key in use is loaded anew before its time is over, beside its uses: when the key
// service is away, who was served goes on for two fifths of a key's time at least, and
// nobody waits for it otherwise. Each key is still unwrapped once in its time, so that
// a key that was disabled opens nothing after it.
const (
	renewAfter = 3 // fifths
	renewPause = 2 * time.Second
)

// due is when something is to be loaded anew. Safe for concurrent use.
type due struct{ at atomic.Int64 } // Unix nanoseconds; 0 is never

// in sets it for something that was loaded now and is kept for life.
func (d *due) in(life time.Duration) { d.at.Store(time.Now().Add(life * renewAfter / 5).UnixNano()) }

// now tells one caller that it is time, and the next not before a pause: the load may
// fail.
func (d *due) now() bool {
	at, now := d.at.Load(), time.Now()
	return at != 0 && now.UnixNano() >= at && d.at.CompareAndSwap(at, now.Add(renewPause).UnixNano())
}

// renew loads a key anew; the context is not a request's. One that was disabled or
// shredded is not used any longer, nor any other of its tenant's: the hint of a gate that
// closed may not have been heard.
func (c *keyCache) renew(ctx context.Context, ref keyRef) {
	_, err := c.load(ctx, ref)
	if errors.Is(err, driver.ErrKeyDisabled) || errors.Is(err, driver.ErrKeyGone) {
		c.drop(ref.tenant)
	}
}

// renewNewest asks for the newest key beside those who use the one that is known, and
// has it unwrapped before it is theirs.
func (c *keyCache) renewNewest(ctx context.Context, ref newestRef, today string) {
	ctx, cancel := context.WithTimeout(ctx, 2*c.opts.LoadTimeout)
	defer cancel()
	epoch := c.epoch(ref.tenant)
	n, err := c.findNewest(ctx, ref, today, epoch)
	if err != nil {
		return
	}
	key, err := c.byID(ctx, ref.tenant, ref.purpose, n.id)
	if err != nil {
		return
	}
	key.release()
	_ = c.keepNewest(ref, n, epoch)
}
