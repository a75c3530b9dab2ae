package access

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/caresphere/caresphere/internal/tenantdb"
	"github.com/caresphere/caresphere/tenants"
)

// contextLife is how long a signed context holds: longer than any transaction may
// take, and bound to one backend besides.
const contextLife = 30 * time.Second

// Login is what a worker needs to act as one tenant's role.
type Login struct {
	Certificate tls.Certificate
	Key         tenantdb.ContextKey
	NotAfter    time.Time
	// Stamp is the tenant's as of this login, or of before.
	Stamp tenantdb.Stamp
}

// member signs the context of the actor's request on this connection.
func (l Login) member(conn *pgxpool.Conn, actor tenants.Actor) string {
	return l.sign(conn, tenantdb.KindMember, actor)
}

// read signs the context of an actor's read, which the entry of that id will tell of.
func (l Login) read(conn *pgxpool.Conn, actor tenants.Actor, entry tenants.ID) string {
	return tenantdb.MintRead(l.Key, conn.Conn().PgConn().PID(), actor, entry, time.Now().Add(contextLife))
}

// entries signs a list of the tenant's audit entries for this connection.
func (l Login) entries(conn *pgxpool.Conn, tenant tenants.ID, list string) string {
	return tenantdb.MintEntries(l.Key, conn.Conn().PgConn().PID(), tenant, list, time.Now().Add(contextLife))
}

// lookup signs the context of a person about to be established.
func (l Login) lookup(conn *pgxpool.Conn, tenant, identity, session tenants.ID) string {
	return l.sign(conn, tenantdb.KindLookup, tenants.Actor{TenantID: tenant, ID: identity, SessionID: session})
}

// system signs the context of the worker's own bookkeeping.
func (l Login) system(conn *pgxpool.Conn, tenant tenants.ID) string {
	return l.sign(conn, tenantdb.KindSystem, tenants.Actor{TenantID: tenant})
}

func (l Login) sign(conn *pgxpool.Conn, kind tenantdb.Kind, actor tenants.Actor) string {
	return tenantdb.Mint(l.Key, conn.Conn().PgConn().PID(), kind, actor, time.Now().Add(contextLife))
}

// Credentials gives the login of a tenant. Errors: KindGateClosed when the tenant
// has none here or the KMS refuses its key, KindUnavailable.
type Credentials interface {
	Login(ctx context.Context, tenant tenants.ID) (Login, error)
	// Stamp tells whether gate or credential changed since.
	Stamp(ctx context.Context, tenant tenants.ID) (tenantdb.Stamp, error)
}

// StoredCredentials reads logins from the cell's database and opens them with the KMS.
type StoredCredentials struct {
	Cell tenantdb.Queryer
	KMS  tenantdb.Unwrapper
}

// Login implements Credentials.
func (s StoredCredentials) Login(ctx context.Context, tenant tenants.ID) (Login, error) {
	// First: what changes after it shows in the next.
	stamp, err := s.Stamp(ctx, tenant)
	if err != nil {
		return Login{}, err
	}
	row, err := tenantdb.LoadCredential(ctx, s.Cell, tenant)
	if errors.Is(err, tenantdb.ErrNoCredential) {
		return Login{}, tenants.WrapError(tenants.KindGateClosed, "this organization cannot be served now", err)
	}
	if err != nil {
		return Login{}, classify(err)
	}
	cert, key, err := tenantdb.OpenCredential(ctx, s.KMS, row)
	if errors.Is(err, tenantdb.ErrIntegrity) {
		return Login{}, tenants.WrapError(tenants.KindIntegrity, "a stored value failed its check", err)
	}
	if err != nil {
		return Login{}, classify(fmt.Errorf("opening a tenant's credential: %w", err))
	}
	return Login{Certificate: cert, Key: key, NotAfter: row.NotAfter, Stamp: stamp}, nil
}

// Stamp implements Credentials.
func (s StoredCredentials) Stamp(ctx context.Context, tenant tenants.ID) (tenantdb.Stamp, error) {
	stamp, err := tenantdb.LoadStamp(ctx, s.Cell, tenant)
	return stamp, classify(err)
}
