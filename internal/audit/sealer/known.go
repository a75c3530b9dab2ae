package sealer

import (
	"context"
	"time"

	"github.com/caresphere/caresphere/internal/audit"
)

// meetEvery is how often at most an unknown tag has the list of logs read, and meetShare
// how many times as long as that took passes before the next: any login of the database
// may notify of anything, and to read the list takes every tenant.
const (
	meetEvery = time.Second
	meetShare = 20
)

// meet has the list of logs read for an unknown tag: at once, or with all that come
// meanwhile when the last time is old enough. What they told of is marked with what is new.
func (u *unit) meet(ctx context.Context) {
	u.mu.Lock()
	if u.meeting {
		u.mu.Unlock()
		return
	}
	wait := max(0, time.Until(u.met.Add(max(meetEvery, meetShare*u.listing))))
	u.met = time.Now().Add(wait)
	u.meeting = wait > 0
	u.mu.Unlock()
	if wait == 0 {
		u.refresh(ctx)
		return
	}
	time.AfterFunc(wait, func() {
		u.mu.Lock()
		u.meeting = false
		u.mu.Unlock()
		if ctx.Err() == nil {
			u.refresh(ctx)
		}
	})
}

// refresh reads the list of logs, and marks those that are new; an error leaves the old
// list.
func (u *unit) refresh(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	began := time.Now()
	logs, err := u.src.Logs(ctx)
	if err != nil {
		if ctx.Err() == nil {
			u.s.cfg.Logger.WarnContext(ctx, "audit sealer cannot list logs", "error", err)
		}
		return
	}
	known := make(map[string]audit.Log, len(logs))
	for _, l := range logs {
		known[l.Tag()] = l
	}
	u.mu.Lock()
	for tag := range known {
		// Of a new one a notification may have been dropped as of no known log.
		if _, old := u.known[tag]; !old && u.listed {
			u.dirty[tag] = time.Now().Add(u.s.cfg.Debounce)
		}
	}
	u.known, u.listed, u.listing = known, true, time.Since(began)
	u.mu.Unlock()
	u.signal()
}
