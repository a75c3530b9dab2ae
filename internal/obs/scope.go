package obs

import (
	"context"
	"sync/atomic"

	"github.com/caresphere/caresphere/tenants"
)

type scopeKey struct{}

// scope is what log lines of one request share. The tenant is learned after the
// request began, so it is set in place and seen by whoever holds the context.
type scope struct {
	requestID string
	tenant    atomic.Pointer[tenants.ID]
}

// WithRequest returns a context whose log lines carry the request id, and the
// tenant once SetTenant has named it.
func WithRequest(ctx context.Context, requestID string) context.Context {
	return context.WithValue(ctx, scopeKey{}, &scope{requestID: requestID})
}

// RequestID returns the id given to WithRequest, or "".
func RequestID(ctx context.Context) string {
	if s, ok := ctx.Value(scopeKey{}).(*scope); ok {
		return s.requestID
	}
	return ""
}

// SetTenant names the tenant that the request turned out to be for. It does
// nothing for a context without a request.
func SetTenant(ctx context.Context, tenant tenants.ID) {
	if s, ok := ctx.Value(scopeKey{}).(*scope); ok {
		s.tenant.Store(&tenant)
	}
}

// Tenant returns the tenant given to SetTenant, or tenants.NilID.
func Tenant(ctx context.Context) tenants.ID {
	if s, ok := ctx.Value(scopeKey{}).(*scope); ok {
		if t := s.tenant.Load(); t != nil {
			return *t
		}
	}
	return tenants.NilID
}
