package tenantdb

import (
	"context"
	"fmt"

	"github.com/caresphere/caresphere/tenants"
)

// Stamp stands for a tenant's gate and credential in its cell: two are equal where
// neither was changed between them.
type Stamp struct {
	gate       int64
	open       bool
	credential string
}

// Open tells whether the gate is not closed. One that no decision was applied to yet is
// not: then there is no login either.
func (s Stamp) Open() bool { return s.open }

// LoadStamp reads the tenant's stamp as cell_worker or cell_owner.
func LoadStamp(ctx context.Context, db Queryer, tenant tenants.ID) (Stamp, error) {
	var s Stamp
	err := db.QueryRow(ctx, `
		SELECT coalesce(f.gate_version, -1), coalesce(f.gate_open OR f.gate_version < 0, true),
		       coalesce(c.data_key_id::text || ' ' || c.updated_at::text, '')
		FROM (SELECT $1::uuid AS tenant_id) t
		LEFT JOIN cell.tenant_fence f USING (tenant_id)
		LEFT JOIN cell.tenant_credential c USING (tenant_id)`, tenant).Scan(&s.gate, &s.open, &s.credential)
	if err != nil {
		return Stamp{}, fmt.Errorf("reading a tenant's gate and credential: %w", err)
	}
	return s, nil
}
