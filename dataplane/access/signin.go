package access

import (
	"context"
	"fmt"

	"github.com/caresphere/caresphere/dataplane/store"
	"github.com/caresphere/caresphere/tenants"
)

// SignIn notes a session that was not seen before and writes session.login for
// it, in one transaction; one that is known already is left alone. Errors:
// KindGateClosed, KindUnavailable.
func (d *Door) SignIn(ctx context.Context, actor tenants.Actor) error {
	return elsewhere(func() error { return d.signIn(ctx, actor) })
}

func (d *Door) signIn(ctx context.Context, actor tenants.Actor) error {
	conn, tp, release, err := d.pools.acquire(ctx, actor.TenantID)
	if err != nil {
		return err
	}
	defer release()
	defer rollbackOpen(ctx, conn)
	if err := begin(ctx, conn, opening{signed: tp.login.lookup(conn, actor.TenantID, actor.ID, actor.SessionID), seen: anyVersion}); err != nil {
		return classify(err)
	}
	fresh, err := store.New(conn).InsertSession(ctx, store.InsertSessionParams{
		SessionID: actor.SessionID, IdentityID: actor.ID, Ip: actor.IP, Device: actor.Device})
	if err != nil {
		return classify(fmt.Errorf("noting a session: %w", err))
	}
	if fresh == 0 {
		return nil
	}
	login := Target{Action: "session.login", RecordType: "session", RecordID: actor.SessionID}
	// The entry names the member, so it is written in the member's context.
	if err := (ending{signed: tp.login.member(conn, actor), target: login, outcome: outcomeOK}).commit(ctx, conn, actor); err != nil {
		return err
	}
	d.hints.AuditDirty(actor.TenantID)
	return nil
}
