package cptest

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/caresphere/caresphere/internal/kms"
	"github.com/caresphere/caresphere/internal/phi"
	"github.com/caresphere/caresphere/internal/tenantdb"
	"github.com/caresphere/caresphere/tenants"
)

// Worker is what a worker does with the data keys of tenants, without a cache.
type Worker struct {
	KMS kms.KMS
	// System runs fn in a transaction of the tenant's own login role, under a system context.
	System func(ctx context.Context, tenant tenants.ID, fn func(pgx.Tx) error) error
	// Cell is a superuser's pool, to look at what is stored.
	Cell *pgxpool.Pool
}

// Newest implements phi.KeySource.
func (w Worker) Newest(ctx context.Context, tenant tenants.ID, purpose string) (phi.StoredKey, error) {
	return w.one(ctx, tenant, `purpose = $1 ORDER BY created_at DESC LIMIT 1`, purpose)
}

// ByID implements phi.KeySource.
func (w Worker) ByID(ctx context.Context, tenant, id tenants.ID) (phi.StoredKey, error) {
	return w.one(ctx, tenant, `id = $1`, id)
}

// Add implements phi.KeySource.
func (w Worker) Add(ctx context.Context, tenant tenants.ID, k phi.StoredKey) error {
	return w.System(ctx, tenant, func(tx pgx.Tx) error {
		_, err := tx.Exec(ctx, `INSERT INTO data_key (id, purpose, wrapped, kms_version) VALUES ($1, $2, $3, $4)`, k.ID, k.Purpose, k.Wrapped, k.Version)
		return err
	})
}

func (w Worker) one(ctx context.Context, tenant tenants.ID, where string, arg any) (k phi.StoredKey, err error) {
	err = w.System(ctx, tenant, func(tx pgx.Tx) error {
		return tx.QueryRow(ctx, `SELECT id, purpose, wrapped, kms_version, created_at FROM data_key WHERE `+where, arg).
			Scan(&k.ID, &k.Purpose, &k.Wrapped, &k.Version, &k.CreatedAt)
	})
	if errors.Is(err, pgx.ErrNoRows) {
		err = tenants.NotFound()
	}
	return k, err
}

// Record is a field that was sealed before a rotation.
type Record struct {
	Place  phi.Place
	Sealed []byte
}

var said = phi.NewText("what was written before")

// Seal seals a field on each of so many days, under a data key each.
func (w Worker) Seal(t testing.TB, tenant tenants.ID, days int) (list []Record) {
	t.Helper()
	for day := range days {
		r := Record{Place: phi.Place{Tenant: tenant, Table: "client", Column: "name", Row: tenants.NewID()}}
		c, err := phi.NewCipher(w.KMS, w, phi.Options{Now: func() time.Time { return time.Now().Add(time.Duration(day) * 24 * time.Hour) }})
		if err == nil {
			r.Sealed, err = c.Seal(context.Background(), r.Place, said)
			c.Close()
		}
		if err != nil {
			t.Fatalf("sealing a field: %v", err)
		}
		list = append(list, r)
	}
	return list
}

// Turned says what is not as rotations to the version leave it: the key is of just
// that version and of no other, every wrap as well, by itself and by its row, and each
// record is read by a worker that remembers nothing.
func (w Worker) Turned(ctx context.Context, tenant tenants.ID, version int, records []Record) error {
	s, err := w.KMS.Status(ctx, kms.KeyName(tenant))
	if err != nil || s.State != kms.StateAlive || s.Version != version || s.MinVersion != version {
		return fmt.Errorf("its key is %+v, and version %d is wanted: %w", s, version, err)
	}
	credential, err := tenantdb.LoadCredential(ctx, w.Cell, tenant)
	if err != nil {
		return err
	}
	wraps := [][]byte{credential.WrappedKey}
	rows, err := w.Cell.Query(ctx, `SELECT wrapped, kms_version FROM `+tenants.SchemaName(tenant)+`.data_key`)
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		var (
			wrapped  []byte
			recorded int
		)
		if err := rows.Scan(&wrapped, &recorded); err != nil {
			return err
		}
		if wraps = append(wraps, wrapped); recorded != version {
			return fmt.Errorf("a data key's row says version %d", recorded)
		}
	}
	if err := rows.Err(); err != nil {
		return err
	}
	for _, wrapped := range wraps {
		if got, err := w.KMS.WrapVersion(wrapped); err != nil || got != version {
			return fmt.Errorf("a key is wrapped by version %d: %w", got, err)
		}
	}
	cipher, err := phi.NewCipher(w.KMS, w, phi.Options{})
	if err != nil {
		return err
	}
	defer cipher.Close()
	for _, r := range records {
		text, err := cipher.Open(ctx, r.Place, r.Sealed)
		if err != nil {
			return fmt.Errorf("a record written before is not read: %w", err)
		}
		if !text.Equal(said) {
			return errors.New("a record written before reads differently")
		}
	}
	// Logging in opens the credential.
	return w.System(ctx, tenant, func(tx pgx.Tx) error {
		_, err := tx.Exec(ctx, `SELECT 1`)
		return err
	})
}
