// Package vault is the key service on HashiCorp Vault's transit engine: one
// mount a cell, one derived aes256-gcm96 key a tenant.
//
// It owns the cell's transit mount, the cell's ledger of closed and shredded
// keys, and the policy that closes keys to the workers. It trusts Vault for the
// tenants' keys and for what each AppRole may do. Each method works for the role
// whose policy allows it (see Policies) and gives driver.ErrAuth to the others.
// It never sees a tenant's key, and never logs tokens or data keys.
package vault

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/hashicorp/vault/api"

	"github.com/caresphere/caresphere/internal/kms/driver"
	"github.com/caresphere/caresphere/tenants"
)

// Config says where Vault is and who we are.
type Config struct {
	// Address is https://host:port.
	Address string
	// Cell is the cell's id; the mount is cell/<Cell>.
	Cell string
	// CAFile is the PEM file of the authority that signed Vault's certificate.
	CAFile string
	// RoleIDFile and SecretIDFile hold this process's AppRole credentials. They
	// are read at each login, so that they may be replaced while running.
	RoleIDFile, SecretIDFile string
}

// Vault implements driver.KMS.
type Vault struct {
	cell    paths
	session *session
}

var _ driver.KMS = (*Vault)(nil)

// callTimeout bounds one request: a hung Vault must cost seconds, not the
// client's default of a minute.
const callTimeout = 2 * time.Second

var cellForm = regexp.MustCompile(`^[a-z][a-z0-9-]{0,30}$`)

// Open returns the driver. It does not wait for Vault: the first call logs in.
func Open(_ context.Context, cfg Config) (*Vault, error) {
	address, err := url.Parse(cfg.Address)
	if err != nil || address.Scheme != "https" || address.Host == "" {
		return nil, errors.New("vault: the address must be https://host:port")
	}
	if !cellForm.MatchString(cfg.Cell) {
		return nil, errors.New("vault: a cell id is needed, as CARESPHERE_CELL_ID")
	}
	for _, file := range []string{cfg.RoleIDFile, cfg.SecretIDFile} {
		if _, err := os.Stat(file); err != nil {
			return nil, fmt.Errorf("vault: AppRole credentials: %w", err)
		}
	}
	client, err := NewClient(cfg.Address, cfg.CAFile)
	if err != nil {
		return nil, err
	}
	login, err := NewClient(cfg.Address, cfg.CAFile)
	if err != nil {
		return nil, err
	}
	return &Vault{cell: paths(cfg.Cell), session: newSession(client, login, cfg.RoleIDFile, cfg.SecretIDFile)}, nil
}

// NewClient returns a Vault client without a token that verifies the server by
// the authority, gives up after two seconds, does not retry on its own, and
// takes nothing from VAULT_* variables of the environment.
func NewClient(address, caFile string) (*api.Client, error) {
	roots := x509.NewCertPool()
	pem, err := os.ReadFile(caFile)
	if err != nil {
		return nil, fmt.Errorf("vault: certificate authority: %w", err)
	}
	if !roots.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("vault: %s holds no certificate", caFile)
	}
	transport := &http.Transport{
		TLSClientConfig:     &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: roots},
		TLSHandshakeTimeout: callTimeout,
		MaxIdleConnsPerHost: 16,
		IdleConnTimeout:     90 * time.Second,
		ForceAttemptHTTP2:   true,
	}
	client, err := api.NewClient(&api.Config{
		Address:    address,
		HttpClient: &http.Client{Transport: transport, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }},
		Timeout:    callTimeout,
	})
	if err != nil {
		return nil, fmt.Errorf("vault: client: %w", err)
	}
	// The library fills gaps from the environment; these may not come from there.
	if err := client.SetAddress(address); err != nil {
		return nil, fmt.Errorf("vault: address: %w", err)
	}
	client.SetMaxRetries(0)
	client.SetToken("")
	client.ClearNamespace()
	return client, nil
}

// NewDataKey implements driver.KMS for the worker.
func (v *Vault) NewDataKey(ctx context.Context, key, purpose string, id tenants.ID) (driver.DataKey, error) {
	bound, err := driver.Context(key, purpose, id)
	if err != nil {
		return driver.DataKey{}, err
	}
	s, err := v.write(ctx, v.cell.dataKey(key), map[string]any{"context": base64.StdEncoding.EncodeToString(bound)})
	if err != nil {
		return driver.DataKey{}, v.explain(ctx, key, err)
	}
	text, _ := s.Data["plaintext"].(string)
	plain, err := base64.StdEncoding.DecodeString(text)
	if err != nil || len(plain) != driver.DataKeySize {
		return driver.DataKey{}, fmt.Errorf("vault: data key has a wrong form: %w", driver.ErrIntegrity)
	}
	wrapped, version, err := wrappedOf(s)
	if err != nil {
		return driver.DataKey{}, err
	}
	return driver.DataKey{Plain: plain, Wrapped: wrapped, Version: version}, nil
}

// Unwrap implements driver.KMS for the worker.
func (v *Vault) Unwrap(ctx context.Context, key, purpose string, id tenants.ID, wrapped []byte) ([]byte, error) {
	bound, err := driver.Context(key, purpose, id)
	if err != nil {
		return nil, err
	}
	if _, err := versionOf(string(wrapped)); err != nil {
		return nil, err
	}
	s, err := v.write(ctx, v.cell.decrypt(key), map[string]any{
		"ciphertext": string(wrapped), "context": base64.StdEncoding.EncodeToString(bound),
	})
	if err != nil {
		return nil, v.explain(ctx, key, err)
	}
	text, _ := s.Data["plaintext"].(string)
	plain, err := base64.StdEncoding.DecodeString(text)
	if err != nil || len(plain) != driver.DataKeySize {
		return nil, fmt.Errorf("vault: data key has a wrong form: %w", driver.ErrIntegrity)
	}
	return plain, nil
}

// Rewrap implements driver.KMS for the rewrapper.
func (v *Vault) Rewrap(ctx context.Context, key, purpose string, id tenants.ID, wrapped []byte) ([]byte, int, error) {
	bound, err := driver.Context(key, purpose, id)
	if err != nil {
		return nil, 0, err
	}
	if _, err := versionOf(string(wrapped)); err != nil {
		return nil, 0, err
	}
	s, err := v.write(ctx, v.cell.rewrap(key), map[string]any{
		"ciphertext": string(wrapped), "context": base64.StdEncoding.EncodeToString(bound),
	})
	if err != nil {
		return nil, 0, err
	}
	return wrappedOf(s)
}

// WrapVersion implements driver.KMS.
func (v *Vault) WrapVersion(wrapped []byte) (int, error) { return versionOf(string(wrapped)) }

// wrappedOf returns the ciphertext of a transit answer and the version in it.
func wrappedOf(s *api.Secret) ([]byte, int, error) {
	text, _ := s.Data["ciphertext"].(string)
	version, err := versionOf(text)
	if err != nil {
		return nil, 0, err
	}
	return []byte(text), version, nil
}

// versionOf reads the key version out of a transit ciphertext, `vault:v3:...`.
func versionOf(wrapped string) (int, error) {
	rest, ok := strings.CutPrefix(wrapped, "vault:v")
	number, body, found := strings.Cut(rest, ":")
	version, err := strconv.Atoi(number)
	if !ok || !found || body == "" || err != nil || version < 1 {
		return 0, fmt.Errorf("vault: wrapped data key has a wrong form: %w", driver.ErrIntegrity)
	}
	return version, nil
}

// Health implements driver.KMS: Vault is unsealed and takes our token.
func (v *Vault) Health(ctx context.Context) error {
	_, err := v.session.once(ctx, func(ctx context.Context, c *api.Client) (*api.Secret, error) {
		return c.Logical().ReadWithContext(ctx, "auth/token/lookup-self")
	})
	return err
}

// Close implements driver.KMS. It ends the renewal; the token runs out by itself.
func (v *Vault) Close() error {
	v.session.close()
	return nil
}
