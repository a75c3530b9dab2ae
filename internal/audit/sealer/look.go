package sealer

import (
	"time"

	"github.com/caresphere/caresphere/internal/audit"
)

// lookRest is how many times as long as a look took passes before the next of those that
// are due by the clock. A look takes a dozen statements on tables that nobody else touches:
// with ten thousand logs one every ten minutes would take most of a processor.
const lookRest = 9

// paced looks at logs that are due by the clock, one at a time and longest first. What
// has something to seal is not paced. The unit's lock guards it.
type paced struct {
	due   map[string]bool      // tags
	begun map[string]time.Time // by tag: when its last whole look that went well began
	now   string               // whose look goes on
	until time.Time            // when the next may begin
}

// choose takes the log that has waited longest for a look, unless it is not time for one:
// then it says how long until it is, if any is due.
func (p *paced) choose(now time.Time, running map[string]bool) (tag string, wait time.Duration) {
	if len(p.due) == 0 || p.now != "" {
		return "", 0
	}
	if left := p.until.Sub(now); left > 0 {
		return "", left
	}
	for one := range p.due {
		if !running[one] && (tag == "" || p.begun[one].Before(p.begun[tag])) {
			tag = one
		}
	}
	if tag != "" {
		delete(p.due, tag)
		p.now = tag
	}
	return tag, 0
}

// ended says that the work on a log is over, begun at start.
func (p *paced) ended(tag string, whole, well bool, start, now time.Time) {
	if whole && well {
		p.begun[tag] = start
	}
	if p.now == tag {
		p.now, p.until = "", now.Add(lookRest*now.Sub(start))
	}
}

// recent is how far back a look of the log has to go to meet the one before it.
func (p *paced) recent(tag string, every time.Duration, now time.Time) time.Duration {
	if last, ok := p.begun[tag]; ok {
		return max(2*every, now.Sub(last)+every)
	}
	return 2 * every
}

// unlooked is how long ago the log that has waited longest was held against its anchor, or
// has been known if it never was.
func (p *paced) unlooked(known map[string]audit.Log, since, now time.Time) (longest time.Duration) {
	for tag := range known {
		last := since
		if at, ok := p.begun[tag]; ok {
			last = at
		}
		longest = max(longest, now.Sub(last))
	}
	return longest
}

// forget drops what is kept of logs that are gone.
func (p *paced) forget(known map[string]audit.Log) {
	for tag := range p.begun {
		if _, ok := known[tag]; !ok {
			delete(p.begun, tag)
		}
	}
}
