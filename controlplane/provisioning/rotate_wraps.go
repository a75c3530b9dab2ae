package provisioning

import (
	"context"
	"errors"
	"fmt"
	"strconv"

	"github.com/caresphere/caresphere/internal/audit"
	"github.com/caresphere/caresphere/internal/tenantdb"
	"github.com/caresphere/caresphere/tenants"

	"github.com/jackc/pgx/v5"
)

// wrapPage is how many wraps are renewed in one transaction.
const wrapPage = 100

// wrapped is a wrapped data key as a row has it.
type wrapped struct {
	id      tenants.ID
	purpose string
	wrap    []byte
}

// renewWraps has every wrapped key of the tenant wrapped by the new version and
// looks again; it returns how many there are. What was sealed under the data keys
// is not touched, nor are the data keys: only what wraps them changes.
func (r *rotation) renewWraps(ctx context.Context) (int, error) {
	credentials, err := r.renewCredential(ctx)
	if err != nil {
		return 0, err
	}
	login, err := r.p.loginAs(ctx, r.organization)
	if err != nil {
		return 0, err
	}
	defer login.close(ctx)
	if _, err := r.eachPage(ctx, login, func(page []wrapped) error { return r.renewPage(ctx, login, page) }); err != nil {
		return 0, err
	}
	left := 0
	keys, err := r.eachPage(ctx, login, func(page []wrapped) error {
		for _, w := range page {
			old, err := r.old(w.wrap)
			if err != nil {
				return err
			}
			if old {
				left++
			}
		}
		return nil
	})
	if err != nil {
		return 0, err
	}
	if left > 0 {
		return 0, because("data keys are still wrapped by an older version; it is tried again", nil)
	}
	return credentials + keys, nil
}

// old tells by the wrap itself, and not by what a row says of it, whether an older
// version than the new one made it.
func (r *rotation) old(wrap []byte) (bool, error) {
	version, err := r.p.Rewrapper.WrapVersion(wrap)
	if err != nil {
		return false, fmt.Errorf("reading a wrap: %w", err)
	}
	return version < int(r.row.ToVersion), nil
}

// renewCredential renews the wrap of the data key that the tenant's credential and
// the key of its request context are sealed under. A credential that was issued anew
// meanwhile stays: it is looked at again.
func (r *rotation) renewCredential(ctx context.Context) (int, error) {
	for range 3 {
		row, err := tenantdb.LoadCredential(ctx, r.p.Cell, r.organization)
		if errors.Is(err, tenantdb.ErrNoCredential) {
			return 0, nil
		}
		if err != nil {
			return 0, err
		}
		old, err := r.old(row.WrappedKey)
		if err != nil {
			return 0, err
		}
		if !old {
			return 1, nil
		}
		renewed, _, err := r.p.Rewrapper.Rewrap(ctx, r.key, tenantdb.Purpose, row.DataKeyID, row.WrappedKey)
		if err != nil {
			return 0, fmt.Errorf("rewrapping the credential's key: %w", err)
		}
		if err := r.cell(ctx, func(tx pgx.Tx) error {
			_, err := tx.Exec(ctx, `UPDATE cell.tenant_credential SET wrapped_key = $1 WHERE tenant_id = $2 AND data_key_id = $3 AND wrapped_key = $4`,
				renewed, r.organization, row.DataKeyID, row.WrappedKey)
			return wrap(err, "storing the credential's wrap")
		}); err != nil {
			return 0, err
		}
	}
	return 0, because("the credential's key is still wrapped by an older version; it is tried again", nil)
}

// eachPage goes through the tenant's data keys, as the worker's own bookkeeping does
// and with no member's rights, and returns how many there are.
func (r *rotation) eachPage(ctx context.Context, login *tenantLogin, fn func([]wrapped) error) (int, error) {
	var after tenants.ID
	for n := 0; ; {
		var page []wrapped
		err := login.system(ctx, func(tx pgx.Tx) error {
			rows, err := tx.Query(ctx, `SELECT id, purpose, wrapped FROM data_key WHERE id > $1 ORDER BY id LIMIT $2`, after, wrapPage)
			if err != nil {
				return err
			}
			page, err = pgx.CollectRows(rows, func(row pgx.CollectableRow) (w wrapped, err error) {
				return w, row.Scan(&w.id, &w.purpose, &w.wrap)
			})
			return err
		})
		if err != nil {
			return 0, fmt.Errorf("listing data keys: %w", err)
		}
		if len(page) == 0 {
			return n, nil
		}
		n += len(page)
		after = page[len(page)-1].id
		if err := fn(page); err != nil {
			return 0, err
		}
	}
}

// renewPage renews the old wraps of a page. Nobody waits for the KMS behind a lock: it
// is asked first, and a wrap that was changed meanwhile stays as it is.
func (r *rotation) renewPage(ctx context.Context, login *tenantLogin, page []wrapped) error {
	type renewal struct {
		wrapped
		renewed []byte
		version int
	}
	var due []renewal
	for _, w := range page {
		old, err := r.old(w.wrap)
		if err != nil {
			return err
		}
		if !old {
			continue
		}
		renewed, version, err := r.p.Rewrapper.Rewrap(ctx, r.key, w.purpose, w.id, w.wrap)
		if err != nil {
			return fmt.Errorf("rewrapping a data key: %w", err)
		}
		due = append(due, renewal{w, renewed, version})
	}
	if len(due) == 0 {
		return nil
	}
	return wrap(login.system(ctx, func(tx pgx.Tx) error {
		var n int64
		for _, d := range due {
			tag, err := tx.Exec(ctx, `UPDATE data_key SET wrapped = $1, kms_version = $2 WHERE id = $3 AND wrapped = $4`, d.renewed, d.version, d.id, d.wrap)
			if err != nil {
				return err
			}
			n += tag.RowsAffected()
		}
		if n == 0 {
			return nil
		}
		// The actor comes from the transaction's context.
		if err := audit.Insert(ctx, tx, tenants.Actor{}, audit.Event{Action: "key.rewrap", RecordType: "key_rotation", RecordID: r.row.ID.String(),
			Detail: map[string]string{"data_keys": strconv.FormatInt(n, 10), "version": strconv.Itoa(int(r.row.ToVersion))}}); err != nil {
			return err
		}
		return audit.Notify(ctx, tx, audit.TenantLog(r.organization, tenants.SchemaName(r.organization)))
	}), "storing wraps")
}
