package dptest

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"github.com/caresphere/caresphere/internal/identity"
	"github.com/caresphere/caresphere/tenants"
)

// Routes is a route table that a test changes.
type Routes struct {
	mu     sync.RWMutex
	bySlug map[string]tenants.Route
}

// BySlug implements session.Routes.
func (r *Routes) BySlug(slug string) (tenants.Route, bool) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	route, ok := r.bySlug[slug]
	return route, ok && time.Now().Before(route.NotAfter)
}

// Set publishes a route.
func (r *Routes) Set(route tenants.Route) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.bySlug[route.Slug] = route
}

// Withdraw takes a route away.
func (r *Routes) Withdraw(slug string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.bySlug, slug)
}

// People stands for Kratos where its own behaviour does not matter.
type People struct {
	mu      sync.RWMutex
	byToken map[string]identity.Session
	down    atomic.Bool
	asked   atomic.Int64
}

// Whoami implements session.Identity.
func (p *People) Whoami(_ context.Context, c identity.Credential) (identity.Session, error) {
	p.asked.Add(1)
	if p.down.Load() {
		return identity.Session{}, tenants.NewError(tenants.KindUnavailable, "please try again shortly")
	}
	p.mu.RLock()
	defer p.mu.RUnlock()
	s, ok := p.byToken[c.Token]
	if !ok {
		return s, tenants.NewError(tenants.KindUnauthenticated, "sign in first")
	}
	return s, nil
}

// Set makes the token stand for the session.
func (p *People) Set(token string, s identity.Session) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.byToken[token] = s
}

// End makes the token stand for nobody.
func (p *People) End(token string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.byToken, token)
}

// Down makes Kratos unreachable, or reachable again.
func (p *People) Down(yes bool) { p.down.Store(yes) }

// Asked is how often Kratos was asked.
func (p *People) Asked() int64 { return p.asked.Load() }

// Invitations stands for the control plane.
type Invitations struct {
	mu   sync.Mutex
	ids  map[string]tenants.ID
	Sent int
	Fail error
}

// Invite implements members.Invitations: idempotent by e-mail.
func (i *Invitations) Invite(_ context.Context, _ tenants.ID, email, _ string) (tenants.ID, error) {
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.Fail != nil {
		return tenants.NilID, i.Fail
	}
	i.Sent++
	if i.ids == nil {
		i.ids = map[string]tenants.ID{}
	}
	if _, ok := i.ids[email]; !ok {
		i.ids[email] = tenants.NewID()
	}
	return i.ids[email], nil
}
