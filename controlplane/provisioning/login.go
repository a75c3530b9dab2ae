package provisioning

import (
	"context"
	"fmt"
	"time"

	"github.com/caresphere/caresphere/internal/pg"
	"github.com/caresphere/caresphere/internal/tenantdb"
	"github.com/caresphere/caresphere/tenants"

	"github.com/jackc/pgx/v5"
)

// tenantLogin is a connection as a tenant's own login role: what the workers may
// not do, it cannot either.
type tenantLogin struct {
	conn   *pgx.Conn
	key    tenantdb.ContextKey
	tenant tenants.ID
}

// loginAs connects as the tenant's role. The certificate is one of this moment;
// nothing sealed is opened for it. The caller closes it.
func (p *Provisioner) loginAs(ctx context.Context, tenant tenants.ID) (*tenantLogin, error) {
	cert, err := p.Authority.Issue(tenant, p.Now())
	if err != nil {
		return nil, err
	}
	role := tenants.RoleName(tenant)
	var inner []byte
	if err := p.Cell.QueryRow(ctx, `SELECT inner_block FROM cell.context_key WHERE role_name = $1`, role).Scan(&inner); err != nil {
		return nil, fmt.Errorf("reading the context key: %w", err)
	}
	key, err := tenantdb.ContextKeyFromBlock(inner)
	if err != nil {
		return nil, err
	}
	conn, err := pg.Connect(ctx, p.CellDSN, pg.Options{ApplicationName: "caresphere-provisioner",
		User: role, Certificate: &cert, SearchPath: tenants.SchemaName(tenant)})
	if err != nil {
		return nil, because("the organization's login role cannot log in; it is tried again", err)
	}
	return &tenantLogin{conn: conn, key: key, tenant: tenant}, nil
}

func (l *tenantLogin) close(ctx context.Context) {
	cctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 2*time.Second)
	defer cancel()
	_ = l.conn.Close(cctx)
}

// system runs fn in a transaction for the platform's own bookkeeping, which shows
// no member's data.
func (l *tenantLogin) system(ctx context.Context, fn func(pgx.Tx) error) error {
	return l.in(ctx, tenantdb.KindSystem, tenants.Actor{TenantID: l.tenant}, fn)
}

// in runs fn in a transaction under a context for the actor.
func (l *tenantLogin) in(ctx context.Context, kind tenantdb.Kind, a tenants.Actor, fn func(pgx.Tx) error) error {
	signed := tenantdb.Mint(l.key, l.conn.PgConn().PID(), kind, a, time.Now().Add(15*time.Second))
	return pg.InTx(ctx, l.conn, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, `SELECT set_config($1, $2, true)`, tenantdb.Setting, signed); err != nil {
			return fmt.Errorf("setting the request context: %w", err)
		}
		return fn(tx)
	})
}
