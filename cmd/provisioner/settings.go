package main

import (
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/caresphere/caresphere/internal/blob"
	"github.com/caresphere/caresphere/internal/kms"
	"github.com/caresphere/caresphere/internal/obs"
)

// settings is the process's environment.
type settings struct {
	TLSCA        string `env:"CARESPHERE_TLS_CA" required:"true"`
	TLSCert      string `env:"CARESPHERE_TLS_CERT" required:"true"`
	TLSKey       string `env:"CARESPHERE_TLS_KEY" required:"true"`
	HealthListen string `env:"CARESPHERE_HEALTH_LISTEN" required:"true"`
	PublicOrigin string `env:"CARESPHERE_PUBLIC_ORIGIN" required:"true"`

	ControlDSN string `env:"CARESPHERE_CONTROL_DSN" required:"true"`
	CellID     string `env:"CARESPHERE_CELL_ID" required:"true"`
	OwnerDSN   string `env:"CARESPHERE_CELL_OWNER_DSN" required:"true"`
	SealerDSN  string `env:"CARESPHERE_CELL_SEALER_DSN" required:"true"`

	// Files.
	AuditKey     string `env:"CARESPHERE_AUDIT_KEY" required:"true"`
	ProbeKey     string `env:"CARESPHERE_PROBE_KEY" required:"true"`
	TenantCACert string `env:"CARESPHERE_TENANT_CA_CERT" required:"true"`
	TenantCAKey  string `env:"CARESPHERE_TENANT_CA_KEY" required:"true"`
	StripeKey    string `env:"CARESPHERE_STRIPE_KEY"`
	StripeURL    string `env:"CARESPHERE_STRIPE_URL"`

	// LeaseLife is how long a provisioner that died holds up the others.
	LeaseLife time.Duration `env:"CARESPHERE_LEASE_LIFE" default:"12s"`

	KMS  kms.Config
	Blob blob.Config
	Obs  obs.Config

	Checks checkSettings

	Isolation isolationSettings

	Rotation rotationSettings

	Keys keySettings

	Census censusSettings
}

// secretFile reads a file that holds one line. The error names the file only.
func secretFile(path string) (string, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return "", fmt.Errorf("reading a key file: %w", err)
	}
	return strings.TrimSpace(string(b)), nil
}
