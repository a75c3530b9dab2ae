package session

import (
	"context"
	"log/slog"
	"time"

	"github.com/caresphere/caresphere/tenants"
)

// Extender prolongs a session at Kratos. The identity service ends sessions by
// themselves after minutes; those in use go on, within our own limits.
type Extender interface {
	Extend(ctx context.Context, session tenants.ID) error
}

const (
	// extendBefore is how long before its end a session in use is prolonged.
	extendBefore = 10 * time.Minute
	extendPause  = 30 * time.Second
)

// Prolong makes the gate prolong sessions in use.
func (g *Gate) Prolong(e Extender) { g.extender = e }

// Used says that the visit's request succeeded: a session near its end at Kratos
// is prolonged, beside the request. One that the database has refused never is.
func (g *Gate) Used(v Visit) {
	if g.extender == nil || time.Until(v.ExpiresAt) > extendBefore {
		return
	}
	if _, fresh := g.extending.SetIfAbsent(v.Actor.SessionID, struct{}{}); !fresh {
		return
	}
	go func() {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		if err := g.extender.Extend(ctx, v.Actor.SessionID); err != nil {
			slog.WarnContext(ctx, "a session in use could not be prolonged", "error", err)
			return
		}
		g.whoami.Invalidate(fingerprint(v.credential))
	}()
}
