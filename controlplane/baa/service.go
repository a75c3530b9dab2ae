package baa

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/riverqueue/river"
	"github.com/riverqueue/river/rivertype"
	"golang.org/x/mod/sumdb/note"

	"github.com/caresphere/caresphere/controlplane/acts"
	"github.com/caresphere/caresphere/internal/evidence"
	"github.com/caresphere/caresphere/tenants"
)

// Gate decides an organization's gate anew, in the transaction of what changed.
type Gate interface {
	Decide(ctx context.Context, tx pgx.Tx, organization tenants.ID) error
}

// Subscriptions begins an organization's subscription, in the transaction of the
// agreement that it needs. Beginning one twice changes nothing.
type Subscriptions interface {
	Start(ctx context.Context, tx pgx.Tx, organization tenants.ID) error
}

// Jobs inserts a background job in a transaction; *river.Client does.
type Jobs interface {
	InsertTx(ctx context.Context, tx pgx.Tx, args river.JobArgs, opts *river.InsertOpts) (*rivertype.JobInsertResult, error)
}

// Config is what a Service needs. All fields but Clock and Template are required.
type Config struct {
	Pool          *pgxpool.Pool
	Gate          Gate
	Subscriptions Subscriptions
	Jobs          Jobs
	// Platform is the legal name of the business associate.
	Platform string
	// Signer is the platform key named caresphere-baa, Verifier its encoded public half.
	Signer   note.Signer
	Verifier string
	// Template defaults to the current one, Clock to the database's.
	Template *Template
	Clock    acts.Clock
}

// Service is the agreements' lifecycle.
type Service struct {
	Config
	template Template
	verifier note.Verifier
}

// New checks the configuration: the key's two halves must belong together.
func New(c Config) (*Service, error) {
	s := &Service{Config: c}
	if s.Clock == nil {
		s.Clock = acts.DatabaseClock
	}
	if c.Template != nil {
		s.template = *c.Template
	} else {
		t, err := CurrentTemplate()
		if err != nil {
			return nil, err
		}
		s.template = t
	}
	encoded, v, err := evidence.ParseKey(c.Verifier)
	if err != nil {
		return nil, fmt.Errorf("the platform key: %w", err)
	}
	if v.KeyHash() != c.Signer.KeyHash() || v.Name() != c.Signer.Name() {
		return nil, fmt.Errorf("the platform key's public half does not belong to its private half")
	}
	s.Config.Verifier, s.verifier = encoded, v
	return s, nil
}

// Person is who acts, with what a signature must record of them. Email and the
// times are the session's, as the identity server knows them.
type Person struct {
	tenants.Actor
	Email   string
	Methods []string
	// SignedInAt is when the session last authenticated by any method; SecondFactorAt
	// is zero for a session without a second factor.
	SessionIssuedAt, SignedInAt, SecondFactorAt time.Time
}

// Agreement is one agreement with all that may be shown of it.
type Agreement struct {
	ID              tenants.ID
	OrganizationID  tenants.ID
	State           tenants.BAAState
	TemplateVersion string
	// Current tells whether the template is the one that new agreements use.
	Current        bool
	Document       []byte
	DocumentSHA256 string
	TermMonths     int
	// Customer and Operator are nil until that party has signed.
	Customer, Operator *evidence.Signature
	CreatedAt          time.Time
	SignedAt           *time.Time
	ExecutedAt         *time.Time
	ExpiresAt          *time.Time
	EndedAt            *time.Time
	EndedReason        string
}

// Statements returns what each party is asked to affirm when signing now.
func (s *Service) Statements() (customer, operator Statements) {
	return s.template.Customer, s.template.Operator
}
