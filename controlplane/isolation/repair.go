package isolation

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/jackc/pgx/v5"

	"github.com/caresphere/caresphere/controlplane/store"
	"github.com/caresphere/caresphere/internal/isolation"
	"github.com/caresphere/caresphere/internal/kms/driver"
	"github.com/caresphere/caresphere/tenants"
)

// Repair is what a plan would do, or what a repair did.
type Repair struct {
	TenantID tenants.ID `json:"tenant_id"`
	Slug     string     `json:"slug"`
	// Differences are what was found before anything was done.
	Differences []isolation.Finding `json:"differences"`
	// Statements are SQL for the cell's database, in order, and Steps what is done
	// beside it.
	Statements []string `json:"statements"`
	Steps      []string `json:"steps"`
	// Refused are the statements that only a superuser may run; Left is what no
	// statement mends, for a person to decide.
	Refused []string            `json:"refused"`
	Left    []isolation.Finding `json:"left"`
	// Applied says that it was done, and Proof is the proof after it.
	Applied bool              `json:"applied"`
	Proof   *isolation.Tenant `json:"proof,omitempty"`
}

// rounds is how often a repair looks again: mending one thing may be what makes
// the next one possible.
const rounds = 3

// plan says what differs and what would mend it. It changes nothing.
func (p *Prover) plan(ctx context.Context, t subject) (Repair, look, error) {
	out := Repair{TenantID: t.id, Slug: t.slug, Statements: []string{}, Steps: []string{}, Refused: []string{}, Left: []isolation.Finding{}}
	l, err := p.inspect(ctx, t.id)
	if err != nil {
		return out, l, err
	}
	shared, _, err := p.shared(ctx)
	if err != nil {
		return out, l, err
	}
	out.Differences = append(append(findings(shared), findings(l.differences)...), append(l.standing(t), l.behind(t)...)...)
	for _, list := range [][]difference{shared, l.differences} {
		do, left := statements(list, t.id)
		out.Statements, out.Left = append(out.Statements, do...), append(out.Left, left...)
	}
	s := newSheet(t)
	p.keyStands(ctx, s, t)
	p.storage(ctx, s, t, nil)
	found := s.done(false).Findings
	out.Differences = append(out.Differences, found...)
	for _, f := range found {
		if f.Layer == isolation.LayerStorage {
			out.Steps = append(out.Steps, stepPrefix)
		}
	}
	status, err := p.Keys.Status(ctx, driver.KeyName(t.id))
	switch {
	case err != nil:
		return out, l, fmt.Errorf("looking at the key: %w", err)
	case status.State == driver.StateAbsent || status.State == driver.StateShredded:
		// A new key would open nothing of what the tenant has: only a backup helps.
		out.Left = append(out.Left, isolation.Finding{Layer: isolation.LayerKey, Object: "key", Problem: "it is gone: restore the key service's backup", Found: string(status.State)})
	case len(found) > 0 || len(l.standing(t)) > 0 || len(l.behind(t)) > 0:
		out.Steps = append(out.Steps, stepGate)
	}
	if !l.credential || !l.contextKey {
		if t.open() {
			out.Steps = append(out.Steps, stepCredential)
		} else {
			out.Left = append(out.Left, isolation.Finding{Layer: isolation.LayerDeclared, Object: "credential", Problem: "it is made anew once the gate is open"})
		}
	}
	return out, l, nil
}

const (
	stepPrefix     = "make the storage prefix"
	stepGate       = "apply the gate's decision to role and key"
	stepCredential = "issue a fresh credential"
)

// repair mends what it can and proves the tenant again. It never opens a gate.
func (p *Prover) repair(ctx context.Context, run store.IsolationStartRow, t subject) (Repair, error) {
	first, _, err := p.plan(ctx, t)
	if err != nil {
		return first, err
	}
	next := first
	first.Statements = []string{}
	for range rounds {
		if len(next.Statements)+len(next.Steps) == 0 {
			break
		}
		m, err := p.mend(ctx, t.id)
		if err != nil {
			return first, err
		}
		for _, sql := range m.tried {
			if !slices.Contains(first.Statements, sql) {
				first.Statements = append(first.Statements, sql)
			}
		}
		for _, step := range next.Steps {
			if err := p.step(ctx, t, step); err != nil {
				return first, err
			}
		}
		if next, _, err = p.plan(ctx, t); err != nil {
			return first, err
		}
		first.Refused = m.refused
	}
	if len(next.Statements) == 0 {
		first.Refused = []string{}
	}
	first.Left, first.Applied = next.Left, true
	report, err := p.Prove(ctx, store.IsolationStartRow{ID: run.ID, Number: run.Number, Round: run.Round}, t.id)
	if err != nil {
		return first, err
	}
	first.Proof = &report.Tenants[0]
	return first, nil
}

func (p *Prover) step(ctx context.Context, t subject, step string) error {
	switch step {
	case stepPrefix:
		if err := p.Objects.EnsurePrefix(ctx, Prefix(t.id)); err != nil {
			return fmt.Errorf("making the prefix: %w", err)
		}
	case stepGate:
		if err := p.Provisioner.ApplyGate(ctx, t.id); err != nil {
			// What a superuser has to mend first may stand in its way.
			p.Log.WarnContext(ctx, "a repair could not apply the gate", "tenant", t.id.String(), "error", err)
		}
	case stepCredential:
		if err := p.Provisioner.Reissue(ctx, t.id); err != nil {
			return fmt.Errorf("issuing a credential: %w", err)
		}
	}
	return nil
}

func (p *Prover) subject(ctx context.Context, id tenants.ID) (subject, error) {
	row, err := p.q.IsolationTenant(ctx, store.IsolationTenantParams{ID: id, CellID: &p.CellID})
	if errors.Is(err, pgx.ErrNoRows) {
		return subject{}, errNoTenant
	}
	if err != nil {
		return subject{}, fmt.Errorf("reading the tenant: %w", err)
	}
	return asSubject(row), nil
}
