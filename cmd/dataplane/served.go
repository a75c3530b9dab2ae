package main

import (
	"context"
	"sync"
	"time"

	"github.com/caresphere/caresphere/dataplane/access"
	"github.com/caresphere/caresphere/tenants"
)

// servedFor is how long a tenant is remembered after it was last seen open or asked for:
// longer than anything of it is kept unasked, a data key for 5 minutes at most.
const servedFor = 10 * time.Minute

// served gives logins and remembers whose. A tenant's connections may be gone before its
// keys are, as when its login was refused: who has connections does not tell.
type served struct {
	access.Credentials

	mu   sync.Mutex
	last map[tenants.ID]time.Time
}

func newServed(c access.Credentials) *served {
	return &served{Credentials: c, last: map[tenants.ID]time.Time{}}
}

// Login implements access.Credentials.
func (s *served) Login(ctx context.Context, tenant tenants.ID) (access.Login, error) {
	s.mu.Lock()
	s.last[tenant] = time.Now()
	s.mu.Unlock()
	return s.Credentials.Login(ctx, tenant)
}

// withdrawn returns those that were served and are not open now.
func (s *served) withdrawn(now time.Time, open func(tenants.ID) bool) (gone []tenants.ID) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for tenant, last := range s.last {
		switch {
		case open(tenant):
			s.last[tenant] = now
			continue
		case now.Sub(last) > servedFor:
			delete(s.last, tenant)
		}
		gone = append(gone, tenant)
	}
	return gone
}
