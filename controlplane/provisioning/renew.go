package provisioning

import (
	"context"
	"errors"
	"fmt"

	"github.com/caresphere/caresphere/internal/pg"
	"github.com/caresphere/caresphere/internal/tenantdb"
	"github.com/caresphere/caresphere/tenants"

	"github.com/jackc/pgx/v5"
)

// RenewCredentials replaces every credential of the cell that is past half of its
// life. A tenant whose gate is closed is left alone: its key refuses, and its
// credential is renewed when the gate opens again or at the next round after. It
// returns how many were renewed; errors of single tenants do not stop the others.
func (p *Provisioner) RenewCredentials(ctx context.Context) (int, error) {
	rows, err := p.Cell.Query(ctx, `
		SELECT c.tenant_id FROM cell.tenant_credential c
		JOIN cell.tenant_fence f ON f.tenant_id = c.tenant_id AND f.gate_open
		WHERE c.not_after < $1 ORDER BY c.not_after`, p.Now().Add(tenantdb.CertificateLife/2))
	if err != nil {
		return 0, fmt.Errorf("listing credentials: %w", err)
	}
	due, err := pgx.CollectRows(rows, pgx.RowTo[tenants.ID])
	if err != nil {
		return 0, fmt.Errorf("listing credentials: %w", err)
	}
	var failed []error
	renewed := 0
	for _, tenant := range due {
		if err := p.Reissue(ctx, tenant); err != nil {
			failed = append(failed, fmt.Errorf("renewing the credential of %s: %w", tenant, err))
			continue
		}
		renewed++
	}
	return renewed, errors.Join(failed...)
}

// Reissue replaces one tenant's credential and tells the workers. Its key must be
// alive. The context key stays as it is, or is made if there is none.
func (p *Provisioner) Reissue(ctx context.Context, tenant tenants.ID) error {
	return p.issueCredential(ctx, tenant, func(ctx context.Context, fn func(pgx.Tx) error) error {
		return pg.InTx(ctx, p.Cell, func(tx pgx.Tx) error {
			if err := fn(tx); err != nil {
				return err
			}
			_, err := tx.Exec(ctx, `SELECT pg_notify($1, $2)`, tenantdb.GateChannel, tenantdb.HintTag(tenantdb.GateChannel, tenant))
			return wrap(err, "telling the workers")
		})
	})
}
