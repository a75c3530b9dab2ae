package access

import (
	"context"

	"github.com/caresphere/caresphere/dataplane/store"
	"github.com/caresphere/caresphere/internal/phi"
	"github.com/caresphere/caresphere/tenants"
)

// Cipher seals and opens fields; phi.Cipher is one.
type Cipher interface {
	Seal(ctx context.Context, p phi.Place, v phi.Text) ([]byte, error)
	Open(ctx context.Context, p phi.Place, sealed []byte) (phi.Text, error)
	BlindIndex(ctx context.Context, tenant tenants.ID, purpose string, normalized phi.Text) ([]byte, error)
	Drop(tenant tenants.ID)
}

// Tx is what a function inside the door may use: the tenant's statements, its
// cipher, and the words for its audit entry. It is dead once the function returned.
type Tx struct {
	*store.Queries
	// Actor is who acts, with the authorization that the database confirmed.
	Actor tenants.Actor

	target       *Target
	cipher       Cipher
	authzChanged bool
}

// About completes the audit entry with the record and facility, once known.
func (tx *Tx) About(record, facility tenants.ID) {
	tx.target.RecordID, tx.target.FacilityID = record, facility
}

// Note adds a word to the audit entry's detail: a name, a count, an id; never PHI.
func (tx *Tx) Note(key, value string) {
	d := make(map[string]string, len(tx.target.Detail)+1)
	for k, v := range tx.target.Detail {
		d[k] = v
	}
	d[key] = value
	tx.target.Detail = d
}

// AuthzChanged says that this transaction changes what members may reach: caches
// are dropped when it commits.
func (tx *Tx) AuthzChanged() { tx.authzChanged = true }

// Seal encrypts a value for one field of one row. An absent value seals to nil.
func (tx *Tx) Seal(ctx context.Context, table, column string, row tenants.ID, v phi.Text) ([]byte, error) {
	if v.IsZero() {
		return nil, nil
	}
	b, err := tx.cipher.Seal(ctx, phi.Place{Tenant: tx.Actor.TenantID, Table: table, Column: column, Row: row}, v)
	return b, classify(err)
}

// Open decrypts what Seal made for that very field and row; nil opens to an absent
// value. KindIntegrity if it was made for another place or changed.
func (tx *Tx) Open(ctx context.Context, table, column string, row tenants.ID, sealed []byte) (phi.Text, error) {
	if sealed == nil {
		return phi.Text{}, nil
	}
	v, err := tx.cipher.Open(ctx, phi.Place{Tenant: tx.Actor.TenantID, Table: table, Column: column, Row: row}, sealed)
	return v, classify(err)
}

// BlindIndex returns the keyed index of a normalized value; nil for an absent one.
func (tx *Tx) BlindIndex(ctx context.Context, purpose string, v phi.Text) ([]byte, error) {
	if v.IsZero() {
		return nil, nil
	}
	b, err := tx.cipher.BlindIndex(ctx, tx.Actor.TenantID, purpose, v)
	return b, classify(err)
}
