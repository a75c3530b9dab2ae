// Package cptest gives the control plane's tests a migrated database, organizations
// with owners, and the services wired as the binary wires them.
//
// It owns fixtures only. The code under test works as the role controlplane; the
// superuser's connection is for planting faults and for looking. Only tests import
// this package.
package cptest

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/riverqueue/river"
	"github.com/riverqueue/river/riverdriver/riverpgxv5"
	"github.com/stretchr/testify/require"
	"golang.org/x/mod/sumdb/note"

	"github.com/caresphere/caresphere/controlplane/acts"
	"github.com/caresphere/caresphere/controlplane/baa"
	"github.com/caresphere/caresphere/controlplane/billing"
	"github.com/caresphere/caresphere/controlplane/fleet"
	"github.com/caresphere/caresphere/controlplane/placement"
	"github.com/caresphere/caresphere/internal/evidence"
	"github.com/caresphere/caresphere/internal/payments"
	"github.com/caresphere/caresphere/internal/pg"
	"github.com/caresphere/caresphere/internal/testkit"
	"github.com/caresphere/caresphere/tenants"
)

// World is one control database with the services on it.
type World struct {
	DB       *testkit.DB
	Pool     *pgxpool.Pool
	Jobs     *river.Client[pgx.Tx]
	Gates    *placement.Gates
	Workers  *placement.Workers
	Billing  *billing.Service
	Fleet    *fleet.Service
	BAA      *baa.Service
	Signer   note.Signer
	Verifier string
	Clock    *Clock
	super    *pgxpool.Pool
}

// Clock is the database's clock, which a test may set forward.
type Clock struct {
	mu     sync.Mutex
	offset time.Duration
}

// Advance sets the clock forward.
func (c *Clock) Advance(d time.Duration) { c.mu.Lock(); c.offset += d; c.mu.Unlock() }

// Now is an acts.Clock.
func (c *Clock) Now(ctx context.Context, q acts.Querier) (time.Time, error) {
	now, err := acts.DatabaseClock(ctx, q)
	c.mu.Lock()
	defer c.mu.Unlock()
	return now.Add(c.offset), err
}

// New returns a world of the test's own.
func New(t testing.TB) *World {
	t.Helper()
	w := &World{DB: testkit.ControlDB(t), Clock: &Clock{}}
	w.Pool = Open(t, w.DB.DSN("controlplane"))
	w.super = Open(t, w.DB.Superuser(t))
	var err error
	w.Jobs, err = river.NewClient(riverpgxv5.New(w.Pool), &river.Config{})
	require.NoError(t, err)
	private, public, err := note.GenerateKey(rand.Reader, evidence.KeyName)
	require.NoError(t, err)
	w.Signer, err = note.NewSigner(private)
	require.NoError(t, err)
	w.Verifier = public
	w.Gates = placement.NewGates(w.Jobs, w.Clock.Now)
	w.Workers = placement.NewWorkers(w.Pool)
	w.Billing = billing.New(w.Pool, payments.Manual{})
	w.Fleet = fleet.New(w.Pool, w.Gates, w.Jobs)
	w.BAA = w.Agreements(t, nil)
	return w
}

// Agreements returns an agreements' service of a template; nil is the current one.
func (w *World) Agreements(t testing.TB, template *baa.Template) *baa.Service {
	t.Helper()
	s, err := baa.New(baa.Config{Pool: w.Pool, Gate: w.Gates, Subscriptions: w.Billing, Jobs: w.Jobs,
		Platform: "CareSphere, Inc.", Signer: w.Signer, Verifier: w.Verifier, Template: template, Clock: w.Clock.Now})
	require.NoError(t, err)
	return s
}

// Open returns a pool that closes with the test.
func Open(t testing.TB, dsn string) *pgxpool.Pool {
	t.Helper()
	var (
		pool *pgxpool.Pool
		err  error
	)
	if strings.Contains(dsn, "sslmode=verify-full") {
		pool, err = pg.Open(context.Background(), dsn, pg.Options{ApplicationName: "test"})
	} else {
		cfg, perr := pgxpool.ParseConfig(dsn)
		require.NoError(t, perr)
		cfg.AfterConnect = func(_ context.Context, c *pgx.Conn) error { pg.RegisterTypes(c.TypeMap()); return nil }
		pool, err = pgxpool.NewWithConfig(context.Background(), cfg)
	}
	require.NoError(t, err)
	t.Cleanup(pool.Close)
	return pool
}

// Super runs SQL as the superuser: to plant a fault.
func (w *World) Super(t testing.TB, sql string, args ...any) {
	t.Helper()
	_, err := w.super.Exec(context.Background(), sql, args...)
	require.NoError(t, err)
}

// TrySuper is Super for SQL that is to fail.
func (w *World) TrySuper(sql string, args ...any) error {
	_, err := w.super.Exec(context.Background(), sql, args...)
	return err
}

// Value returns the one value that a query gives, as text.
func (w *World) Value(t testing.TB, sql string, args ...any) string {
	t.Helper()
	var v *string
	require.NoError(t, w.super.QueryRow(context.Background(), "SELECT ("+sql+")::text", args...).Scan(&v))
	if v == nil {
		return ""
	}
	return *v
}

// Snapshot returns a hash of everything that an action could change; without are
// tables to leave out.
func (w *World) Snapshot(t testing.TB, without ...string) string {
	t.Helper()
	h := sha256.New()
	for _, table := range []string{"organization", "account", "baa", "subscription", "provisioning_step", "worker",
		"route_version", "river_job", "audit_entry"} {
		skip := false
		for _, s := range without {
			skip = skip || s == table
		}
		if !skip {
			_, _ = h.Write([]byte(w.Value(t, "SELECT coalesce(string_agg(x::text, E'\\n' ORDER BY x::text), '') FROM "+table+" x")))
		}
	}
	return hex.EncodeToString(h.Sum(nil))
}

// BreakAudit makes every audit insert of an action fail, until Repair.
func (w *World) BreakAudit(t testing.TB, action string) {
	t.Helper()
	w.Super(t, `CREATE OR REPLACE FUNCTION break_audit() RETURNS trigger LANGUAGE plpgsql AS $$
		BEGIN IF NEW.action = TG_ARGV[0] THEN RAISE EXCEPTION 'planted'; END IF; RETURN NEW; END $$`)
	w.Super(t, `CREATE TRIGGER break_audit BEFORE INSERT ON audit_entry FOR EACH ROW EXECUTE FUNCTION break_audit('`+action+`')`)
}

// RepairAudit undoes BreakAudit.
func (w *World) RepairAudit(t testing.TB) {
	t.Helper()
	w.Super(t, "DROP TRIGGER break_audit ON audit_entry")
}

// Organization is a pending organization with its people.
type Organization struct {
	ID            tenants.ID
	Slug          string
	Owner, Member baa.Person
}

// Organization signs one up.
func (w *World) Organization(t testing.TB, slug string) Organization {
	t.Helper()
	o := Organization{ID: tenants.NewID(), Slug: slug}
	w.Super(t, "INSERT INTO organization (id, slug, legal_name, care_setting) VALUES ($1, $2, $3, 'residential')", o.ID, slug, "Haven of "+slug)
	o.Owner = w.Person(t, o, "owner@"+slug+".example", true)
	o.Member = w.Person(t, o, "nurse@"+slug+".example", false)
	return o
}

// Person adds an account to an organization and returns its full session.
func (w *World) Person(t testing.TB, o Organization, email string, owner bool) baa.Person {
	t.Helper()
	p := person(tenants.ActorMember, email)
	p.TenantID = o.ID
	w.Super(t, "INSERT INTO account (identity_id, organization_id, email, name, first_owner) VALUES ($1, $2, $3, 'A Person', $4)", p.ID, o.ID, email, owner)
	return p
}

// Operator returns an operator's full session.
func Operator() baa.Person { return person(tenants.ActorOperator, "riley@operators.example") }

func person(kind tenants.ActorKind, email string) baa.Person {
	now := time.Now().UTC()
	return baa.Person{
		Actor: tenants.Actor{Kind: kind, ID: tenants.NewID(), SessionID: tenants.NewID(), AuthenticatedAt: now,
			IP: "192.0.2.10", Device: "Test/1.0", RequestID: "req-1"},
		Email: email, Methods: []string{"password", "totp"}, SessionIssuedAt: now.Add(-time.Minute), SignedInAt: now, SecondFactorAt: now,
	}
}

// Declaration is what a customer's signer declares.
func Declaration() baa.Declaration {
	return baa.Declaration{Name: "Dana Okafor", Title: "Executive Director", Authority: "I am authorized to bind it.", Consent: true, Intent: true}
}

// Execute drafts, signs and countersigns an agreement.
func (w *World) Execute(t testing.TB, o Organization) baa.Agreement {
	t.Helper()
	a := w.Signed(t, o)
	d := Declaration()
	d.DocumentSHA256 = a.DocumentSHA256
	a, err := w.BAA.Countersign(context.Background(), Operator(), a.ID, d)
	require.NoError(t, err)
	return a
}

// Signed drafts and signs an agreement.
func (w *World) Signed(t testing.TB, o Organization) baa.Agreement {
	t.Helper()
	a, err := w.BAA.Draft(context.Background(), o.Owner, 0)
	require.NoError(t, err)
	a, err = w.BAA.Sign(context.Background(), o.Owner, a.ID, Declaration())
	require.NoError(t, err)
	return a
}

// Live gives an organization what provisioning would have: a cell, a key, a place,
// and the state live; then has the gate decided.
func (w *World) Live(t testing.TB, o Organization) {
	t.Helper()
	w.Super(t, "INSERT INTO cell (id) VALUES ('main') ON CONFLICT DO NOTHING")
	w.Super(t, "UPDATE organization SET state = 'live', cell_id = 'main', key_alive = true, placement_epoch = 1 WHERE id = $1", o.ID)
	w.Decide(t, o.ID)
}

// Decide has the gate of an organization decided.
func (w *World) Decide(t testing.TB, id tenants.ID) {
	t.Helper()
	require.NoError(t, pg.InTx(context.Background(), w.Pool, func(tx pgx.Tx) error { return w.Gates.Decide(context.Background(), tx, id) }))
}
