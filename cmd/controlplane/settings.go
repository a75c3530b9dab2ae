package main

import (
	"bytes"
	"crypto/ed25519"
	"encoding/base64"
	"errors"
	"fmt"
	"net/url"
	"os"
	"strings"

	"golang.org/x/mod/sumdb/note"

	"github.com/caresphere/caresphere/internal/obs"
)

// settings is the process's environment. Paths name files; no secret is in a variable
// but the database's and the mail server's address.
type settings struct {
	Obs obs.Config

	TLSCA   string `env:"CARESPHERE_TLS_CA" required:"true"`
	TLSCert string `env:"CARESPHERE_TLS_CERT" required:"true"`
	TLSKey  string `env:"CARESPHERE_TLS_KEY" required:"true"`

	// Listen is for the router and the workers, by mutual TLS.
	Listen          string `env:"CARESPHERE_LISTEN" required:"true"`
	HealthListen    string `env:"CARESPHERE_HEALTH_LISTEN" required:"true"`
	OperatorListen  string `env:"CARESPHERE_OPERATOR_LISTEN" required:"true"`
	OperatorTLSCert string `env:"CARESPHERE_OPERATOR_TLS_CERT" required:"true"`
	OperatorTLSKey  string `env:"CARESPHERE_OPERATOR_TLS_KEY" required:"true"`

	PublicOrigin   string `env:"CARESPHERE_PUBLIC_ORIGIN" required:"true"`
	OperatorOrigin string `env:"CARESPHERE_OPERATOR_ORIGIN" required:"true"`
	// Dev allows what only a local stack may do; the origins must then be localhost.
	Dev bool `env:"CARESPHERE_DEV"`

	ControlDSN string `env:"CARESPHERE_CONTROL_DSN" required:"true"`

	KratosPublicURL    string `env:"CARESPHERE_KRATOS_PUBLIC_URL" required:"true"`
	KratosAdminURL     string `env:"CARESPHERE_KRATOS_ADMIN_URL" required:"true"`
	OpsKratosPublicURL string `env:"CARESPHERE_OPS_KRATOS_PUBLIC_URL" required:"true"`
	OpsKratosAdminURL  string `env:"CARESPHERE_OPS_KRATOS_ADMIN_URL" required:"true"`
	// CourierKey is what Kratos' courier shows, the same for both realms.
	CourierKey string `env:"CARESPHERE_COURIER_KEY" required:"true"`

	RouteKey string `env:"CARESPHERE_ROUTE_KEY" required:"true"`
	BAAKey   string `env:"CARESPHERE_BAA_KEY" required:"true"`
	// Secret keys the hashes of tried subjects and codes.
	Secret string `env:"CARESPHERE_SECRET" required:"true"`
	// Platform is the business associate's legal name, as agreements give it.
	Platform string `env:"CARESPHERE_PLATFORM_NAME" default:"CareSphere, Inc."`

	// Mail is outbox (a local stack) or an address as mail.OpenSMTP reads it.
	Mail string `env:"CARESPHERE_MAIL" default:"outbox"`

	StripeKey string `env:"CARESPHERE_STRIPE_KEY"`
	StripeURL string `env:"CARESPHERE_STRIPE_URL"`

	// IPLimitFactor multiplies the limits by address, where many people share one.
	IPLimitFactor int `env:"CARESPHERE_IP_LIMIT_FACTOR" default:"1"`
}

// devLimitFactor is for a local stack, where everybody has the same address.
const devLimitFactor = 100

// check refuses combinations that would be dangerous outside a local stack.
func (s *settings) check() error {
	for name, origin := range map[string]string{"CARESPHERE_PUBLIC_ORIGIN": s.PublicOrigin, "CARESPHERE_OPERATOR_ORIGIN": s.OperatorOrigin} {
		u, err := url.Parse(origin)
		if err != nil || u.Scheme != "https" || u.Host == "" || origin != u.Scheme+"://"+u.Host {
			return fmt.Errorf("%s must be an https origin without a path", name)
		}
		if s.Dev && u.Hostname() != "localhost" {
			return fmt.Errorf("CARESPHERE_DEV is for a local stack: %s must then be on localhost", name)
		}
	}
	if s.PublicOrigin == s.OperatorOrigin {
		return errors.New("CARESPHERE_OPERATOR_ORIGIN must differ from CARESPHERE_PUBLIC_ORIGIN")
	}
	if s.Mail == "outbox" && !s.Dev {
		return errors.New("CARESPHERE_MAIL=outbox shows codes to everybody: it needs CARESPHERE_DEV=1 on localhost")
	}
	if s.IPLimitFactor < 1 {
		return errors.New("CARESPHERE_IP_LIMIT_FACTOR must be 1 or more")
	}
	if s.Dev && s.IPLimitFactor == 1 {
		s.IPLimitFactor = devLimitFactor
	}
	return nil
}

// readSecret reads a key file without its line's end.
func readSecret(path string) ([]byte, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("reading a key: %w", err)
	}
	return bytes.TrimSpace(b), nil
}

// readSigner reads a signing key of golang.org/x/mod/sumdb/note, and works out the
// verifier that belongs to it.
func readSigner(path string) (note.Signer, string, error) {
	b, err := readSecret(path)
	if err != nil {
		return nil, "", err
	}
	line, _, _ := strings.Cut(string(b), "\n")
	signer, err := note.NewSigner(line)
	if err != nil {
		// The library's error repeats the key.
		return nil, "", fmt.Errorf("%s holds no signing key", path)
	}
	parts := strings.SplitN(line, "+", 5) // PRIVATE+KEY+name+hash+base64(algorithm, seed)
	raw, err := base64.StdEncoding.DecodeString(parts[len(parts)-1])
	if err != nil || len(raw) != 1+ed25519.SeedSize {
		return nil, "", fmt.Errorf("%s holds no Ed25519 key", path)
	}
	public, ok := ed25519.NewKeyFromSeed(raw[1:]).Public().(ed25519.PublicKey)
	if !ok {
		return nil, "", fmt.Errorf("%s holds no Ed25519 key", path)
	}
	verifier, err := note.NewEd25519VerifierKey(signer.Name(), public)
	if err != nil {
		return nil, "", fmt.Errorf("the verifier of %s: %w", path, err)
	}
	return signer, verifier, nil
}
