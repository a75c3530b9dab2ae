package provisioning

import (
	"context"
	"errors"
	"fmt"

	"github.com/caresphere/caresphere/internal/audit"
	"github.com/caresphere/caresphere/internal/kms/driver"
	"github.com/caresphere/caresphere/internal/tenantdb"
	"github.com/caresphere/caresphere/tenants"

	"github.com/jackc/pgx/v5"
)

// credentialHolds looks whether the stored credential is the tenant's and lives for
// more than half of its life.
func credentialHolds(ctx context.Context, r *run) (bool, error) {
	row, err := tenantdb.LoadCredential(ctx, r.p.Cell, r.organization)
	if errors.Is(err, tenantdb.ErrNoCredential) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	return row.RoleName == r.role && row.KeyName == driver.KeyName(r.organization) &&
		row.NotAfter.After(r.p.Now().Add(tenantdb.CertificateLife/2)), nil
}

func makeCredential(ctx context.Context, r *run) error {
	return r.p.issueCredential(ctx, r.organization, r.cell)
}

// issueCredential makes a certificate and stores it sealed, with the context key
// that the cell's database verifies with: the one that it has, or a new one for a
// new tenant. Both are written together, so that they always fit.
func (p *Provisioner) issueCredential(ctx context.Context, tenant tenants.ID, in func(context.Context, func(pgx.Tx) error) error) error {
	cert, err := p.Authority.Issue(tenant, p.Now())
	if err != nil {
		return err
	}
	return in(ctx, func(tx pgx.Tx) error {
		role := tenants.RoleName(tenant)
		// The first to come makes the key; a second one waits here and finds it.
		fresh := tenantdb.NewContextKey()
		inner, outer := fresh.Blocks()
		if _, err := tx.Exec(ctx, `
			INSERT INTO cell.context_key (role_name, inner_block, outer_block) VALUES ($1, $2, $3)
			ON CONFLICT ON CONSTRAINT context_key_pk DO NOTHING`, role, inner, outer); err != nil {
			return fmt.Errorf("storing the context key: %w", err)
		}
		if err := tx.QueryRow(ctx, `SELECT inner_block FROM cell.context_key WHERE role_name = $1 FOR UPDATE`, role).Scan(&inner); err != nil {
			return fmt.Errorf("reading the context key: %w", err)
		}
		key, err := tenantdb.ContextKeyFromBlock(inner)
		if err != nil {
			return err
		}
		row, err := tenantdb.SealCredential(ctx, p.Keys, tenant, cert, key)
		if err != nil {
			return err
		}
		_, err = tx.Exec(ctx, `
			INSERT INTO cell.tenant_credential (tenant_id, role_name, key_name, certificate, wrapped_key, data_key_id, sealed, not_after)
			VALUES ($1, $2, $3, $4, $5, $6, $7, $8)
			ON CONFLICT ON CONSTRAINT tenant_credential_pk DO UPDATE SET
				role_name = excluded.role_name, key_name = excluded.key_name, certificate = excluded.certificate,
				wrapped_key = excluded.wrapped_key, data_key_id = excluded.data_key_id, sealed = excluded.sealed,
				not_after = excluded.not_after, updated_at = now()`,
			row.TenantID, row.RoleName, row.KeyName, row.Certificate, row.WrappedKey, row.DataKeyID, row.Sealed, row.NotAfter)
		return wrap(err, "storing the credential")
	})
}

// asTenant runs fn in a transaction of the tenant's own login role, with an owner's
// context. The connection serves until the end of the step: its look, its act and its
// second look are three transactions, and opening one takes longer than all of them.
func (r *run) asTenant(ctx context.Context, owner tenants.ID, fn func(pgx.Tx) error) error {
	if r.login != nil && r.login.conn.IsClosed() {
		r.login = nil
	}
	if r.login == nil {
		login, err := r.p.loginAs(ctx, r.organization)
		if err != nil {
			return err
		}
		r.login = login
	}
	return r.login.in(ctx, tenantdb.KindMember, tenants.Actor{ID: owner, TenantID: r.organization, Role: tenants.RoleOwner}, fn)
}

// logOut closes the connection that asTenant left.
func (r *run) logOut(ctx context.Context) {
	if r.login != nil {
		r.login.close(ctx)
		r.login = nil
	}
}

func ownerThere(ctx context.Context, r *run) (there bool, err error) {
	owner, err := r.firstOwner(ctx)
	if err != nil {
		return false, err
	}
	err = r.asTenant(ctx, owner.IdentityID, func(tx pgx.Tx) error {
		return tx.QueryRow(ctx, `
			SELECT EXISTS (SELECT FROM member WHERE identity_id = $1 AND role = 'owner')
			   AND EXISTS (SELECT FROM tenant_setting WHERE tenant_id = $2)`, owner.IdentityID, r.organization).Scan(&there)
	})
	return there, err
}

// makeOwner writes the tenant's settings and its first owner, through the tenant's
// own login: what the workers may not do, this cannot either.
func makeOwner(ctx context.Context, r *run) error {
	owner, err := r.firstOwner(ctx)
	if err != nil {
		return err
	}
	return r.asTenant(ctx, owner.IdentityID, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, `
			INSERT INTO tenant_setting (tenant_id, slug, legal_name, care_setting) VALUES ($1, $2, $3, $4)
			ON CONFLICT ON CONSTRAINT tenant_setting_pk DO NOTHING`,
			r.organization, r.tenant.Slug, r.tenant.LegalName, r.tenant.CareSetting); err != nil {
			return fmt.Errorf("writing the settings: %w", err)
		}
		tag, err := tx.Exec(ctx, `
			INSERT INTO member (identity_id, email, name, role) VALUES ($1, $2, $3, 'owner')
			ON CONFLICT ON CONSTRAINT member_pk DO NOTHING`, owner.IdentityID, owner.Email, owner.Name)
		if err != nil {
			return fmt.Errorf("writing the first owner: %w", err)
		}
		if tag.RowsAffected() == 0 {
			return nil
		}
		// The actor comes from the transaction's context.
		if err := audit.Insert(ctx, tx, tenants.Actor{}, audit.Event{Action: "member.create", RecordType: "member",
			RecordID: owner.IdentityID.String(), Detail: map[string]string{"role": "owner", "by": "provisioning"}}); err != nil {
			return err
		}
		return audit.Notify(ctx, tx, audit.TenantLog(r.organization, r.schema))
	})
}
