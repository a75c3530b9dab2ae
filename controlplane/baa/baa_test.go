package baa_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/caresphere/caresphere/controlplane/baa"
	"github.com/caresphere/caresphere/controlplane/cptest"
	"github.com/caresphere/caresphere/internal/evidence"
	"github.com/caresphere/caresphere/tenants"
)

var ctx = context.Background()

func countersigning(a baa.Agreement) baa.Declaration {
	return baa.Declaration{Name: "Riley Stone", Title: "Compliance Officer", Consent: true, Intent: true, DocumentSHA256: a.DocumentSHA256}
}

func TestSigningPutsAnAgreementInForce(t *testing.T) {
	t.Parallel()
	w := cptest.New(t)
	o := w.Organization(t, "haven")

	a, err := w.BAA.Draft(ctx, o.Owner, 0)
	require.NoError(t, err)
	assert.Equal(t, tenants.BAADraft, a.State)
	assert.Contains(t, string(a.Document), "Haven of haven")
	assert.Contains(t, string(a.Document), a.ID.String())
	assert.Contains(t, string(a.Document), "36 months later (3 years)")
	assert.Equal(t, evidence.Hash(a.Document), a.DocumentSHA256)
	again, err := w.BAA.Draft(ctx, o.Owner, 0)
	require.NoError(t, err)
	assert.Equal(t, a.ID, again.ID, "the same draft is not made twice")

	a, err = w.BAA.Sign(ctx, o.Owner, a.ID, cptest.Declaration())
	require.NoError(t, err)
	assert.Equal(t, tenants.BAASigned, a.State)
	require.NotNil(t, a.Customer)
	assert.Equal(t, "Dana Okafor", a.Customer.Signer.Name)
	assert.Equal(t, o.Owner.Email, a.Customer.Signer.Email)
	assert.Equal(t, []string{"password", "totp"}, a.Customer.Authentication.Methods)
	assert.Equal(t, "192.0.2.10", a.Customer.IP)
	assert.Equal(t, "pending", w.Value(t, "SELECT state FROM organization WHERE id = $1", o.ID))
	_, err = w.BAA.PDF(ctx, o.Owner, a.ID)
	assert.Equal(t, tenants.KindNotFound, tenants.KindOf(err), "there is no PDF before both have signed")

	operator := cptest.Operator()
	a, err = w.BAA.Countersign(ctx, operator, a.ID, countersigning(a))
	require.NoError(t, err)
	assert.Equal(t, tenants.BAAExecuted, a.State)
	assert.Equal(t, operator.ID, a.Operator.Signer.IdentityID)
	assert.Equal(t, a.ExecutedAt.AddDate(3, 0, 0), *a.ExpiresAt)

	assert.Equal(t, "provisioning", w.Value(t, "SELECT state FROM organization WHERE id = $1", o.ID))
	assert.Equal(t, "1", w.Value(t, "SELECT count(*) FROM river_job WHERE kind = 'provision' AND args->>'organization_id' = $1::text", o.ID.String()))
	assert.Equal(t, "manual", w.Value(t, "SELECT plan FROM subscription WHERE organization_id = $1", o.ID))
	assert.Equal(t, "key_not_alive", w.Value(t, "SELECT gate_reason FROM organization WHERE id = $1", o.ID))
	assert.Equal(t, "baa.draft,baa.draft,baa.sign,baa.pdf,baa.countersign",
		w.Value(t, "SELECT string_agg(action, ',' ORDER BY seq) FROM audit_entry"))

	pdf, err := w.BAA.PDF(ctx, o.Owner, a.ID)
	require.NoError(t, err)
	assert.True(t, strings.HasPrefix(string(pdf), "%PDF-"))
	bundle, err := w.BAA.Bundle(ctx, operator, a.ID)
	require.NoError(t, err)
	_, pin, err := evidence.ParseKey(w.Verifier)
	require.NoError(t, err)
	report := evidence.Verify(bundle, pin)
	require.True(t, report.OK, "%v", report.Problems)
	assert.Equal(t, a.ID.String(), report.Agreement.AgreementID)
}

func TestWhoMayAct(t *testing.T) {
	t.Parallel()
	w := cptest.New(t)
	a, b := w.Organization(t, "alpha"), w.Organization(t, "beta")
	executed := w.Execute(t, b)
	signed := w.Signed(t, a)

	weak := b.Owner
	weak.SecondFactorAt = time.Time{}
	disabled := w.Person(t, b, "gone@beta.example", true)
	w.Super(t, "UPDATE account SET disabled_at = now() WHERE identity_id = $1", disabled.ID)
	stranger := b.Owner
	stranger.ID = tenants.NewID()
	forged := a.Owner // a session that claims another organization than its account has
	forged.TenantID = b.ID
	weakOperator := cptest.Operator()
	weakOperator.SecondFactorAt = time.Time{}

	who := map[string]struct {
		person baa.Person
		want   tenants.Kind
	}{
		"owner":                         {b.Owner, ""},
		"operator":                      {cptest.Operator(), ""},
		"owner of another organization": {a.Owner, tenants.KindNotFound},
		"member who is no owner":        {b.Member, tenants.KindForbidden},
		"no second factor":              {weak, tenants.KindSecondFactor},
		"operator, no second factor":    {weakOperator, tenants.KindSecondFactor},
		"disabled account":              {disabled, tenants.KindForbidden},
		"no account":                    {stranger, tenants.KindForbidden},
		"forged organization":           {forged, tenants.KindForbidden},
		"anonymous":                     {baa.Person{Actor: tenants.Actor{Kind: tenants.ActorAnonymous}}, tenants.KindForbidden},
	}
	for name, c := range who {
		t.Run(name, func(t *testing.T) {
			before := w.Snapshot(t, "audit_entry")
			for action, do := range map[string]func() error{
				"get":    func() error { _, err := w.BAA.Get(ctx, c.person, executed.ID); return err },
				"list":   func() error { _, err := w.BAA.List(ctx, c.person, b.ID); return err },
				"pdf":    func() error { _, err := w.BAA.PDF(ctx, c.person, executed.ID); return err },
				"bundle": func() error { _, err := w.BAA.Bundle(ctx, c.person, executed.ID); return err },
			} {
				assert.Equal(t, c.want, tenants.KindOf(do()), action)
			}
			if c.want != "" {
				_, err := w.BAA.Terminate(ctx, c.person, executed.ID, "because")
				assert.Equal(t, c.want, tenants.KindOf(err), "terminate")
			}
			assert.Equal(t, before, w.Snapshot(t, "audit_entry"))
		})
	}
	t.Run("refusals are recorded", func(t *testing.T) {
		assert.NotEqual(t, "0", w.Value(t, "SELECT count(*) FROM audit_entry WHERE outcome = 'denied' AND actor_id = $1 AND record_id = $2",
			a.Owner.ID, executed.ID.String()))
	})
	t.Run("signing", func(t *testing.T) {
		draft, err := w.BAA.Draft(ctx, b.Owner, 12)
		require.NoError(t, err)
		for name, c := range map[string]struct {
			person baa.Person
			want   tenants.Kind
		}{
			"another owner": {a.Owner, tenants.KindNotFound}, "member": {b.Member, tenants.KindForbidden},
			"operator": {cptest.Operator(), tenants.KindForbidden}, "weak": {weak, tenants.KindSecondFactor},
		} {
			_, err := w.BAA.Sign(ctx, c.person, draft.ID, cptest.Declaration())
			assert.Equal(t, c.want, tenants.KindOf(err), name)
		}
		_, err = w.BAA.Draft(ctx, b.Member, 0)
		assert.Equal(t, tenants.KindForbidden, tenants.KindOf(err))
		_, err = w.BAA.Sign(ctx, b.Owner, draft.ID, cptest.Declaration())
		assert.NoError(t, err)
	})
	t.Run("countersigning", func(t *testing.T) {
		for name, c := range map[string]struct {
			person baa.Person
			want   tenants.Kind
		}{
			"the customer itself": {a.Owner, tenants.KindForbidden}, "weak operator": {weakOperator, tenants.KindSecondFactor},
		} {
			_, err := w.BAA.Countersign(ctx, c.person, signed.ID, countersigning(signed))
			assert.Equal(t, c.want, tenants.KindOf(err), name)
		}
		_, err := w.BAA.Countersign(ctx, cptest.Operator(), signed.ID, countersigning(signed))
		assert.NoError(t, err)
	})
}

func TestOnlyTheTextThatWasReadIsSigned(t *testing.T) {
	t.Parallel()
	w := cptest.New(t)
	o := w.Organization(t, "haven")
	a, err := w.BAA.Draft(ctx, o.Owner, 0)
	require.NoError(t, err)
	d := cptest.Declaration()
	d.DocumentSHA256 = evidence.Hash([]byte("another text"))
	_, err = w.BAA.Sign(ctx, o.Owner, a.ID, d)
	assert.Equal(t, tenants.KindConflict, tenants.KindOf(err))
	d.DocumentSHA256 = a.DocumentSHA256
	a, err = w.BAA.Sign(ctx, o.Owner, a.ID, d)
	require.NoError(t, err)

	c := countersigning(a)
	c.DocumentSHA256 = ""
	_, err = w.BAA.Countersign(ctx, cptest.Operator(), a.ID, c)
	assert.Equal(t, tenants.KindInvalid, tenants.KindOf(err))
	c.DocumentSHA256 = evidence.Hash([]byte("another text"))
	_, err = w.BAA.Countersign(ctx, cptest.Operator(), a.ID, c)
	assert.Equal(t, tenants.KindConflict, tenants.KindOf(err))
	_, err = w.BAA.Countersign(ctx, cptest.Operator(), a.ID, countersigning(a))
	assert.NoError(t, err)
}

func TestDeclarationsThatAreRefused(t *testing.T) {
	t.Parallel()
	w := cptest.New(t)
	o := w.Organization(t, "haven")
	a, err := w.BAA.Draft(ctx, o.Owner, 0)
	require.NoError(t, err)
	before := w.Snapshot(t)
	for field, spoil := range map[string][]func(*baa.Declaration){
		"body.name": {
			func(d *baa.Declaration) { d.Name = "" }, func(d *baa.Declaration) { d.Name = "X" },
			func(d *baa.Declaration) { d.Name = strings.Repeat("x", 201) }, func(d *baa.Declaration) { d.Name = "Dana\nOkafor" },
			func(d *baa.Declaration) { d.Name = " Dana" }, func(d *baa.Declaration) { d.Name = "Da\xffna" },
			func(d *baa.Declaration) { d.Name = "Dana\u202eOkafor" }, func(d *baa.Declaration) { d.Name = "Dana\x00" },
		},
		"body.title":     {func(d *baa.Declaration) { d.Title = "" }, func(d *baa.Declaration) { d.Title = "a\tb" }},
		"body.authority": {func(d *baa.Declaration) { d.Authority = "" }, func(d *baa.Declaration) { d.Authority = strings.Repeat("x", 501) }},
		"body.consent":   {func(d *baa.Declaration) { d.Consent = false }},
		"body.intent":    {func(d *baa.Declaration) { d.Intent = false }},
	} {
		for i, f := range spoil {
			d := cptest.Declaration()
			f(&d)
			_, err := w.BAA.Sign(ctx, o.Owner, a.ID, d)
			var e *tenants.Error
			require.True(t, errors.As(err, &e), "%s %d", field, i)
			assert.Equal(t, tenants.KindInvalid, e.Kind)
			assert.Equal(t, field, e.Fields[0].Field)
		}
	}
	for _, months := range []int{-1, 121} {
		_, err := w.BAA.Draft(ctx, o.Owner, months)
		assert.Equal(t, tenants.KindInvalid, tenants.KindOf(err))
	}
	for _, reason := range []string{"", "  ", "ab", strings.Repeat("x", 501), "a\nb c"} {
		_, err := w.BAA.Terminate(ctx, o.Owner, a.ID, reason)
		assert.Equal(t, tenants.KindInvalid, tenants.KindOf(err), "%q", reason)
	}
	assert.Equal(t, before, w.Snapshot(t))
}

// Every state against every action: each cell is either the move that the table of
// the business allows, or a conflict that changes nothing.
func TestStateMachineCellByCell(t *testing.T) {
	t.Parallel()
	w := cptest.New(t)
	operator := cptest.Operator()
	reach := map[tenants.BAAState]func(t *testing.T, o cptest.Organization) baa.Agreement{
		tenants.BAADraft: func(t *testing.T, o cptest.Organization) baa.Agreement {
			a, err := w.BAA.Draft(ctx, o.Owner, 0)
			require.NoError(t, err)
			return a
		},
		tenants.BAASigned:   func(t *testing.T, o cptest.Organization) baa.Agreement { return w.Signed(t, o) },
		tenants.BAAExecuted: func(t *testing.T, o cptest.Organization) baa.Agreement { return w.Execute(t, o) },
		tenants.BAATerminated: func(t *testing.T, o cptest.Organization) baa.Agreement {
			a, err := w.BAA.Terminate(ctx, operator, w.Execute(t, o).ID, "for the test")
			require.NoError(t, err)
			return a
		},
		tenants.BAAExpired: func(t *testing.T, o cptest.Organization) baa.Agreement {
			a := w.Execute(t, o)
			w.Super(t, "UPDATE baa SET state = 'expired', ended_at = now() WHERE id = $1", a.ID)
			return a
		},
		tenants.BAASuperseded: func(t *testing.T, o cptest.Organization) baa.Agreement {
			a := w.Execute(t, o)
			w.Execute(t, o)
			return a
		},
	}
	actions := map[tenants.BAAState]func(o cptest.Organization, a baa.Agreement) error{
		tenants.BAASigned: func(o cptest.Organization, a baa.Agreement) error {
			_, err := w.BAA.Sign(ctx, o.Owner, a.ID, cptest.Declaration())
			return err
		},
		tenants.BAAExecuted: func(_ cptest.Organization, a baa.Agreement) error {
			_, err := w.BAA.Countersign(ctx, operator, a.ID, countersigning(a))
			return err
		},
		tenants.BAATerminated: func(o cptest.Organization, a baa.Agreement) error {
			_, err := w.BAA.Terminate(ctx, o.Owner, a.ID, "for the test")
			return err
		},
	}
	n := 0
	for _, from := range tenants.BAAStates() {
		for to, act := range actions {
			n++
			o := w.Organization(t, "cell-"+string(from)+"-"+string(to))
			t.Run(string(from)+" to "+string(to), func(t *testing.T) {
				a := reach[from](t, o)
				require.Equal(t, string(from), w.Value(t, "SELECT state FROM baa WHERE id = $1", a.ID))
				before := w.Snapshot(t, "audit_entry")
				err := act(o, a)
				if tenants.CheckBAAMove(from, to) == nil {
					require.NoError(t, err)
					assert.Equal(t, string(to), w.Value(t, "SELECT state FROM baa WHERE id = $1", a.ID))
					return
				}
				assert.Equal(t, tenants.KindConflict, tenants.KindOf(err))
				assert.Equal(t, before, w.Snapshot(t, "audit_entry"))
			})
		}
	}
	assert.Equal(t, 18, n)
}

// The row of the audit trail and the action are one: where one fails, so does the other.
func TestNothingHappensWithoutItsAuditRow(t *testing.T) {
	t.Parallel()
	w := cptest.New(t)
	o := w.Organization(t, "haven")
	var a baa.Agreement
	steps := []struct {
		action string
		do     func() error
	}{
		{"baa.draft", func() (err error) { a, err = w.BAA.Draft(ctx, o.Owner, 0); return err }},
		{"baa.sign", func() (err error) { _, err = w.BAA.Sign(ctx, o.Owner, a.ID, cptest.Declaration()); return err }},
		{"baa.countersign", func() (err error) {
			_, err = w.BAA.Countersign(ctx, cptest.Operator(), a.ID, countersigning(a))
			return err
		}},
		{"baa.terminate", func() (err error) { _, err = w.BAA.Terminate(ctx, o.Owner, a.ID, "for the test"); return err }},
	}
	for _, s := range steps {
		w.BreakAudit(t, s.action)
		before := w.Snapshot(t)
		require.ErrorContains(t, s.do(), "planted", s.action)
		assert.Equal(t, before, w.Snapshot(t), "%s left something behind", s.action)
		w.RepairAudit(t)
		require.NoError(t, s.do(), s.action)
		assert.NotEqual(t, before, w.Snapshot(t))
	}
	t.Run("a gate that changes", func(t *testing.T) {
		w.Execute(t, o)
		w.Live(t, o)
		a, err := w.BAA.Current(ctx, o.Owner)
		require.NoError(t, err)
		w.BreakAudit(t, "gate.change")
		before := w.Snapshot(t)
		_, err = w.BAA.Terminate(ctx, o.Owner, a.ID, "for the test")
		require.ErrorContains(t, err, "planted")
		assert.Equal(t, before, w.Snapshot(t))
		w.RepairAudit(t)
	})
	t.Run("reading", func(t *testing.T) {
		w.BreakAudit(t, "baa.bundle")
		a, err := w.BAA.Current(ctx, o.Owner)
		require.NoError(t, err)
		got, err := w.BAA.Bundle(ctx, o.Owner, a.ID)
		require.ErrorContains(t, err, "planted")
		assert.Nil(t, got)
		w.RepairAudit(t)
	})
}
