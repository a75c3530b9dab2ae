package devstack

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/mod/sumdb/note"

	"github.com/caresphere/caresphere/internal/devstack/pki"
	"github.com/caresphere/caresphere/internal/kms/keyring"
)

// The signing keys of a stack, by file name.
var signingKeys = []string{"route", "baa", "audit", "export", "probe", "isolation"}

// The roles that get a certificate of the service CA with their name.
var serviceRoles = []string{"router", "controlplane", "provisioner", "dataplane"}

// keychain is what the stack's parts authenticate with.
type keychain struct {
	ca, tenantCA *pki.Authority
	local        pki.Pair
	roles        map[string]pki.Pair
	passwords    map[string]string
	kratos       map[string]KratosSecrets
	courierKey   string
	s3Access     string
	s3Secret     string
}

// openKeychain makes what is missing or near its end and keeps the rest.
func (l Layout) openKeychain() (*keychain, error) {
	c := &keychain{roles: map[string]pki.Pair{}, passwords: map[string]string{}, kratos: map[string]KratosSecrets{}}
	var err error
	if c.ca, err = pki.Open(l.Path("tls"), "ca", "CareSphere local CA"); err != nil {
		return nil, err
	}
	if c.tenantCA, err = pki.Open(l.Path("tls"), "tenant-ca", "CareSphere local tenant CA"); err != nil {
		return nil, err
	}
	if c.local, err = c.ca.Issue("localhost", "localhost", "127.0.0.1"); err != nil {
		return nil, err
	}
	for _, role := range serviceRoles {
		if c.roles[role], err = c.ca.Issue(role, role, "localhost", "127.0.0.1"); err != nil {
			return nil, err
		}
	}
	for _, name := range signingKeys {
		if err := MakeNoteKey(l.Path("keys"), "caresphere-"+name, name); err != nil && !errors.Is(err, fs.ErrExist) {
			return nil, err
		}
	}
	if err := keyring.Create(l.Path("keyring")); err != nil {
		return nil, err
	}
	return c, c.secrets(l)
}

func (c *keychain) secrets(l Layout) error {
	var failed []error
	secret := func(name string, n int) string {
		text, err := secretText(l.Path("secrets", name), n)
		failed = append(failed, err)
		return text
	}
	for _, role := range ClusterRoles() {
		c.passwords[role] = secret("postgres-"+role, 24)
	}
	for _, realm := range []string{"customers", "operators"} {
		c.kratos[realm] = KratosSecrets{
			Default: secret("kratos-"+realm+"-default", 32), Cookie: secret("kratos-"+realm+"-cookie", 32),
			Cipher: secret("kratos-"+realm+"-cipher", 24), // 24 bytes are the 32 characters that it must have
		}
	}
	c.courierKey = secret("courier.key", 32)
	c.s3Access = secret("s3.access", 15)
	c.s3Secret = secret("s3.secret", 30)
	secret("controlplane.secret", 48)
	// stripe-mock takes any key that looks like one.
	if _, err := os.Stat(l.Path("secrets", "stripe.key")); errors.Is(err, fs.ErrNotExist) {
		failed = append(failed, writeSecret(l.Path("secrets", "stripe.key"), []byte("sk_test_local")))
	}
	return errors.Join(failed...)
}

// MakeNoteKey makes an Ed25519 key of golang.org/x/mod/sumdb/note under the given
// key name: the private key in dir/file.key (0600), the verifier in dir/file.pub,
// one line each. A key that is there is never replaced: fs.ErrExist.
func MakeNoteKey(dir, keyName, file string) error {
	private, public := filepath.Join(dir, file+".key"), filepath.Join(dir, file+".pub")
	if keyName == "" || strings.ContainsAny(keyName, " +\n") {
		return fmt.Errorf("a key's name has neither spaces nor +")
	}
	for _, path := range []string{private, public} {
		if _, err := os.Lstat(path); err == nil {
			return fmt.Errorf("%s: %w", path, fs.ErrExist)
		}
	}
	signer, verifier, err := note.GenerateKey(rand.Reader, keyName)
	if err != nil {
		return fmt.Errorf("making key %s: %w", keyName, err)
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("making %s: %w", dir, err)
	}
	if err := os.WriteFile(public, []byte(verifier+"\n"), 0o644); err != nil { //nolint:gosec // public
		return fmt.Errorf("writing %s: %w", public, err)
	}
	// The private key last: a pair is there only whole.
	return writeSecret(private, []byte(signer+"\n"))
}
