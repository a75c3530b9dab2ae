package attempts

import "time"

// SetClock lets a test say what time it is.
func (c *Counter) SetClock(now func() time.Time) { c.now = now }
