package tenantdb

import (
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/ecdsa"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"time"

	"github.com/caresphere/caresphere/internal/kms/driver"
	"github.com/caresphere/caresphere/tenants"

	"github.com/jackc/pgx/v5"
)

// Purpose binds the data key of a credential to this use of it.
const Purpose = "credential"

// DataKeys is what sealing a credential needs of the KMS.
type DataKeys interface {
	NewDataKey(ctx context.Context, key, purpose string, id tenants.ID) (driver.DataKey, error)
}

// Unwrapper is what opening a credential needs of the KMS.
type Unwrapper interface {
	Unwrap(ctx context.Context, key, purpose string, id tenants.ID, wrapped []byte) ([]byte, error)
}

// Row is a credential as cell.tenant_credential stores it: nobody logs in with it
// whom the KMS does not serve.
type Row struct {
	TenantID    tenants.ID
	RoleName    string
	KeyName     string
	Certificate []byte // DER
	WrappedKey  []byte
	DataKeyID   tenants.ID
	Sealed      []byte
	NotAfter    time.Time
}

// ErrNoCredential means that the tenant has no credential in this cell.
var ErrNoCredential = errors.New("tenantdb: the tenant has no credential in this cell")

// ErrIntegrity means that the stored credential is not what was sealed.
var ErrIntegrity = errors.New("tenantdb: the credential failed its check")

const sealedVersion = 1

// SealCredential seals a certificate's private key and the context key under a
// fresh data key of the tenant. Errors are the KMS's.
func SealCredential(ctx context.Context, keys DataKeys, tenant tenants.ID, cert tls.Certificate, contextKey ContextKey) (Row, error) {
	if tenant.IsZero() {
		return Row{}, errors.New("tenantdb: sealing a credential needs a tenant")
	}
	private, err := x509.MarshalPKCS8PrivateKey(cert.PrivateKey)
	if err != nil {
		return Row{}, fmt.Errorf("encoding a client key: %w", err)
	}
	leaf, err := x509.ParseCertificate(cert.Certificate[0])
	if err != nil {
		return Row{}, fmt.Errorf("reading a client certificate: %w", err)
	}
	row := Row{TenantID: tenant, RoleName: tenants.RoleName(tenant), KeyName: driver.KeyName(tenant),
		Certificate: cert.Certificate[0], DataKeyID: tenants.NewID(), NotAfter: leaf.NotAfter}
	key, err := keys.NewDataKey(ctx, row.KeyName, Purpose, row.DataKeyID)
	if err != nil {
		return Row{}, fmt.Errorf("making a data key for a credential: %w", err)
	}
	defer clear(key.Plain)
	aead, err := gcm(key.Plain)
	if err != nil {
		return Row{}, err
	}
	plain := append(append([]byte{sealedVersion}, contextKey.key[:]...), private...)
	defer clear(plain)
	defer clear(private)
	row.WrappedKey = key.Wrapped
	row.Sealed = aead.Seal(nil, nil, plain, row.binding()) //nolint:gosec // the AEAD makes the nonce itself
	return row, nil
}

// OpenCredential returns what a worker logs in with, and the key that it signs
// contexts with. Errors are the KMS's (disabled, gone, unavailable), or
// ErrIntegrity for a row that was changed or belongs to another tenant.
func OpenCredential(ctx context.Context, keys Unwrapper, row Row) (tls.Certificate, ContextKey, error) {
	var none ContextKey
	if row.RoleName != tenants.RoleName(row.TenantID) || row.KeyName != driver.KeyName(row.TenantID) {
		return tls.Certificate{}, none, ErrIntegrity
	}
	plainKey, err := keys.Unwrap(ctx, row.KeyName, Purpose, row.DataKeyID, row.WrappedKey)
	if err != nil {
		return tls.Certificate{}, none, fmt.Errorf("unwrapping a credential's key: %w", err)
	}
	defer clear(plainKey)
	aead, err := gcm(plainKey)
	if err != nil {
		return tls.Certificate{}, none, err
	}
	plain, err := aead.Open(nil, nil, row.Sealed, row.binding())
	if err != nil || len(plain) < 1+contextKeySize || plain[0] != sealedVersion {
		return tls.Certificate{}, none, ErrIntegrity
	}
	defer clear(plain)
	var contextKey ContextKey
	copy(contextKey.key[:], plain[1:])
	private, err := x509.ParsePKCS8PrivateKey(plain[1+contextKeySize:])
	if err != nil {
		return tls.Certificate{}, none, ErrIntegrity
	}
	leaf, err := x509.ParseCertificate(row.Certificate)
	if err != nil {
		return tls.Certificate{}, none, ErrIntegrity
	}
	if key, ok := private.(*ecdsa.PrivateKey); !ok || !key.PublicKey.Equal(leaf.PublicKey) || leaf.Subject.CommonName != row.RoleName {
		return tls.Certificate{}, none, ErrIntegrity
	}
	return tls.Certificate{Certificate: [][]byte{row.Certificate}, PrivateKey: private, Leaf: leaf}, contextKey, nil
}

// binding is what the sealed bytes belong to; another row's do not open here.
func (r Row) binding() []byte {
	return []byte("v1|cell.tenant_credential|" + r.TenantID.String() + "|" + r.RoleName + "|" + r.DataKeyID.String())
}

func gcm(key []byte) (cipher.AEAD, error) {
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, fmt.Errorf("preparing a credential's cipher: %w", err)
	}
	return cipher.NewGCMWithRandomNonce(block)
}

// Queryer is a pool, a connection or a transaction of the cell's database.
type Queryer interface {
	QueryRow(ctx context.Context, sql string, args ...any) pgx.Row
}

// LoadCredential reads the tenant's credential as cell_worker or cell_owner;
// ErrNoCredential when there is none.
func LoadCredential(ctx context.Context, db Queryer, tenant tenants.ID) (Row, error) {
	var r Row
	err := db.QueryRow(ctx, `
		SELECT tenant_id, role_name::text, key_name, certificate, wrapped_key, data_key_id, sealed, not_after
		FROM cell.tenant_credential WHERE tenant_id = $1`, tenant).
		Scan(&r.TenantID, &r.RoleName, &r.KeyName, &r.Certificate, &r.WrappedKey, &r.DataKeyID, &r.Sealed, &r.NotAfter)
	if errors.Is(err, pgx.ErrNoRows) {
		return Row{}, ErrNoCredential
	}
	if err != nil {
		return Row{}, fmt.Errorf("reading a tenant's credential: %w", err)
	}
	return r, nil
}
