package access

import (
	"context"
	"fmt"

	"github.com/caresphere/caresphere/dataplane/store"
	"github.com/caresphere/caresphere/tenants"
)

// Untold is a decision about a person that the control plane has not been told: the
// end of a session, or how a member stands as of a version.
type Untold struct {
	// ID is the session's or the member's.
	ID      tenants.ID
	Session bool
	// Role, Status and Version are a member's.
	Role, Status string
	Version      int64
}

// untoldPage is how many are read at once.
const untoldPage = 100

// OnOpen has f called whenever the tenant's connections are opened or its data keys are
// read, before the first Do. f must not wait.
func (d *Door) OnOpen(f func(tenant tenants.ID)) { d.pools.opened = f }

func (p *Pools) tellOpened(tenant tenants.ID) {
	if p.opened != nil {
		p.opened(tenant)
	}
}

// Untold returns what the control plane has not been told of the tenant's people, at
// most a page of it with the one asked about first, and how many there are in all.
// Errors: KindGateClosed, KindUnavailable.
func (d *Door) Untold(ctx context.Context, tenant, about tenants.ID) (page []Untold, pending int, err error) {
	err = d.bookkeep(ctx, tenant, func(q *store.Queries) error {
		rows, err := q.Untold(ctx, store.UntoldParams{About: about, PageSize: untoldPage})
		if err != nil {
			return fmt.Errorf("reading what is untold: %w", err)
		}
		for _, r := range rows {
			page = append(page, Untold{ID: r.ID, Session: r.IsSession, Role: r.Role, Status: r.Status, Version: r.Version})
			pending = int(r.Pending)
		}
		return nil
	})
	return page, pending, err
}

// Told notes that the control plane has been told. A member who has changed meanwhile
// stays untold. Errors: KindGateClosed, KindUnavailable.
func (d *Door) Told(ctx context.Context, tenant tenants.ID, told []Untold) error {
	return d.bookkeep(ctx, tenant, func(q *store.Queries) error {
		var ended []tenants.ID
		for _, u := range told {
			if u.Session {
				ended = append(ended, u.ID)
				continue
			}
			if err := q.MarkMemberTold(ctx, store.MarkMemberToldParams{IdentityID: u.ID, Version: u.Version}); err != nil {
				return fmt.Errorf("noting what was told of a member: %w", err)
			}
		}
		if len(ended) == 0 {
			return nil
		}
		if err := q.MarkSessionsTold(ctx, ended); err != nil {
			return fmt.Errorf("noting which ends of sessions were told: %w", err)
		}
		return nil
	})
}

// bookkeep runs fn in a transaction of the worker's own bookkeeping. It leaves no entry:
// what it keeps was decided, and entered, before.
func (d *Door) bookkeep(ctx context.Context, tenant tenants.ID, fn func(*store.Queries) error) error {
	return elsewhere(func() error { return d.keepBooks(ctx, tenant, fn) })
}

func (d *Door) keepBooks(ctx context.Context, tenant tenants.ID, fn func(*store.Queries) error) error {
	conn, tp, release, err := d.pools.acquire(ctx, tenant)
	if err != nil {
		return err
	}
	defer release()
	defer rollbackOpen(ctx, conn)
	if err := begin(ctx, conn, opening{signed: tp.login.system(conn, tenant), seen: anyVersion}); err != nil {
		return classify(err)
	}
	if err := fn(store.New(conn)); err != nil {
		return classify(err)
	}
	if _, err := conn.Exec(ctx, "COMMIT"); err != nil {
		return classify(fmt.Errorf("committing the worker's bookkeeping: %w", err))
	}
	return nil
}
