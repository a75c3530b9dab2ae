package devstack

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"time"

	"github.com/caresphere/caresphere/internal/client"
	"github.com/caresphere/caresphere/internal/identity"
)

// Operator is how the stack's first operator signs in.
type Operator struct {
	Email      string `json:"email"`
	Password   string `json:"password"`
	TOTPSecret string `json:"totp_secret"`
	Origin     string `json:"origin"`
}

// OperatorFile is where the operator's credentials lie, mode 0600.
func (l Layout) OperatorFile() string { return l.Path("operator.json") }

// ReadOperator reads the operator's credentials; fs.ErrNotExist before there are any.
func ReadOperator(l Layout) (Operator, error) {
	var o Operator
	content, err := os.ReadFile(l.OperatorFile())
	if err != nil {
		return o, fmt.Errorf("reading the operator's credentials: %w", err)
	}
	if err := json.Unmarshal(content, &o); err != nil {
		return o, fmt.Errorf("reading %s: %w", l.OperatorFile(), err)
	}
	// The file may be from a run at another port base.
	o.Origin = l.URL(PortOperators)
	return o, nil
}

// EnsureOperator makes the first operator the way that every operator comes in: an
// identity in the operators' realm, a recovery code, then password and second
// factor at the operators' origin. What an earlier run finished stays.
func EnsureOperator(ctx context.Context, l Layout) (Operator, error) {
	o, err := ReadOperator(l)
	if err == nil || !errors.Is(err, fs.ErrNotExist) {
		return o, err
	}
	pem, err := os.ReadFile(l.CA())
	if err != nil {
		return o, fmt.Errorf("reading the authority: %w", err)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(pem)
	ops, err := identity.Open(identity.Config{
		PublicURL: l.URL(PortOpsKratos), AdminURL: l.URL(PortOpsKratosAdmin),
		TLS: &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12},
	})
	if err != nil {
		return o, fmt.Errorf("making the operator: %w", err)
	}
	o = Operator{Email: "operator@caresphere.localhost", Password: rand.Text(), Origin: l.URL(PortOperators)}
	for {
		id, _, err := ops.CreateIdentity(ctx, identity.NewIdentity{Email: o.Email, Name: "First Operator"})
		if err != nil {
			return o, fmt.Errorf("making the operator: %w", err)
		}
		enrolled, err := ops.HasSecondFactor(ctx, id)
		if err != nil {
			return o, fmt.Errorf("making the operator: %w", err)
		}
		if enrolled {
			// The file was lost, and with it the second factor: another one comes in.
			o.Email = "operator-" + strings.ToLower(rand.Text()[:8]) + "@caresphere.localhost"
			continue
		}
		code, flow, err := ops.RecoveryCode(ctx, id, 10*time.Minute)
		if err != nil {
			return o, fmt.Errorf("inviting the operator: %w", err)
		}
		browser := client.New(o.Origin, client.Options{Roots: roots})
		defer browser.Close()
		enrolment, err := browser.Onboard(ctx, flow, code, o.Password)
		if err != nil {
			return o, fmt.Errorf("enrolling the operator: %w", err)
		}
		o.TOTPSecret = enrolment.Secret
		content, err := json.MarshalIndent(o, "", "  ") //nolint:gosec // a file of mode 0600 is what they are for
		if err != nil {
			return o, fmt.Errorf("writing the operator's credentials: %w", err)
		}
		return o, writeSecret(l.OperatorFile(), append(content, '\n'))
	}
}
