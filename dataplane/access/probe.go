package access

import (
	"context"
	"errors"
	"fmt"

	"github.com/caresphere/caresphere/dataplane/store"
	"github.com/caresphere/caresphere/internal/phi"
	"github.com/caresphere/caresphere/tenants"
)

// errProbe: what was read back is not what was written.
var errProbe = errors.New("access: the probe read back something else than it wrote")

// Probe proves that the tenant can be served: it writes a sealed value as the
// tenant's role, reads it back, opens it, deletes it, and commits that with its
// audit entry. The caller has verified the provisioner's token; request carries
// address and request id only.
func (d *Door) Probe(ctx context.Context, tenant tenants.ID, request tenants.Actor) error {
	request.Kind, request.TenantID = tenants.ActorSystem, tenant
	place := phi.Place{Tenant: tenant, Table: "probe", Column: "sealed", Row: tenants.NewID()}
	want := phi.NewText("probe " + place.Row.String())
	// Before there is a transaction: the connection that the key is loaded over is then
	// the one that this takes, where a new tenant would need two.
	sealed, err := d.cipher.Seal(ctx, place, want)
	if err != nil {
		return classify(fmt.Errorf("probing a tenant: %w", err))
	}
	conn, tp, release, err := d.pools.acquire(ctx, tenant)
	if err != nil {
		return err
	}
	defer release()
	defer rollbackOpen(ctx, conn)
	signed := tp.login.system(conn, tenant)
	if err := begin(ctx, conn, opening{signed: signed, seen: anyVersion}); err != nil {
		return classify(err)
	}
	back, err := d.probe(ctx, store.New(conn), place, sealed)
	if err != nil {
		return classify(fmt.Errorf("probing a tenant: %w", err))
	}
	if !back.Equal(want) {
		return classify(errProbe)
	}
	target := Target{Action: "probe.run", RecordType: "probe", RecordID: place.Row}
	if err := (ending{signed: signed, target: target, outcome: outcomeOK}).commit(ctx, conn, request); err != nil {
		return err
	}
	d.hints.AuditDirty(tenant)
	return nil
}

// probe writes the sealed value, reads it back, deletes it, and returns what it opens to.
func (d *Door) probe(ctx context.Context, q *store.Queries, place phi.Place, sealed []byte) (phi.Text, error) {
	if err := q.InsertProbe(ctx, store.InsertProbeParams{ID: place.Row, Sealed: sealed}); err != nil {
		return phi.Text{}, err
	}
	back, err := q.GetProbe(ctx, place.Row)
	if err != nil {
		return phi.Text{}, err
	}
	deleted, err := q.DeleteProbe(ctx, place.Row)
	if err != nil {
		return phi.Text{}, err
	}
	if deleted != 1 {
		return phi.Text{}, errProbe
	}
	return d.cipher.Open(ctx, place, back)
}
