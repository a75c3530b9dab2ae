package isolation

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"golang.org/x/sync/errgroup"

	"github.com/caresphere/caresphere/controlplane/store"
	"github.com/caresphere/caresphere/internal/isolation"
	"github.com/caresphere/caresphere/internal/pause"
	"github.com/caresphere/caresphere/tenants"
)

const (
	atOnce = 4
	// tenantTime bounds one look at one tenant.
	tenantTime = 60 * time.Second
	// settle is the pause before a second look: what changed in the middle of the
	// first, as a gate or a migration, is then as it should be.
	settle = 1500 * time.Millisecond
	looks  = 2
	// gatePatience is how long a look is repeated because the gate moved under it.
	gatePatience = 20 * time.Second
	// scheduled is who asks for the proofs that nobody asks for.
	scheduled = "schedule"
)

// errNoTenant means that there is nobody to prove by this id.
var errNoTenant = errors.New("there is no such tenant in this cell, or it was never live")

// Prove makes one proof: of one tenant, or of all of the cell when only is NilID.
// Each tenant's verdict is recorded as soon as it is known, and one that fails is
// quarantined at once. A proof that could not be made at all is an error, errMore one
// whose next part is due.
func (p *Prover) Prove(ctx context.Context, run store.IsolationStartRow, only tenants.ID) (isolation.Report, error) {
	begun := time.Now()
	all, err := p.subjects(ctx)
	if err != nil {
		return isolation.Report{}, err
	}
	chosen := all
	report := isolation.Report{Version: isolation.Version, ID: run.ID, Number: run.Number, Cell: p.CellID, Scope: "all", StartedAt: p.now(),
		Attempts: catalogue(), Shared: []isolation.Finding{}, Tenants: []isolation.Tenant{}}
	if !only.IsZero() {
		at := slices.IndexFunc(all, func(s subject) bool { return s.id == only })
		if at < 0 {
			return report, errNoTenant
		}
		chosen, report.Scope = all[at:at+1], all[at].slug
	}
	if run.StartedAt != nil {
		report.StartedAt = run.StartedAt.UTC().Truncate(time.Second)
	}
	report.Pairs = pairs(len(all), p.Peers, run.Round)
	ground := &common{p: p}
	if _, err := ground.since(ctx, time.Time{}); err != nil {
		return report, err
	}
	report.Tenants = make([]isolation.Tenant, len(chosen))
	seen := make([]time.Time, len(chosen))
	visit := func(ctx context.Context, i int) error {
		begun := time.Now()
		verdict := p.patientLook(ctx, chosen[i], sample(all, chosen[i], report.Pairs.PerTenant, run.Round), ground)
		report.Tenants[i], seen[i] = verdict, time.Now()
		err := p.record(ctx, run.ID, verdict, only.IsZero())
		if run.AskedBy == scheduled {
			_ = pause.For(ctx, min(time.Since(begun), settle))
		}
		return err
	}
	found, err := p.parts(ctx, run.ID, only)
	if err != nil {
		return report, err
	}
	more, looked := false, 0
	group, gctx := errgroup.WithContext(ctx)
	group.SetLimit(lookers(run))
	for i, t := range chosen {
		if verdict, ok := found[t.id]; ok {
			report.Tenants[i] = verdict
			continue
		}
		// One at least, or a run would never end.
		if only.IsZero() && looked > 0 && time.Since(begun) > p.Part {
			more = true
			break
		}
		looked++
		group.Go(func() error {
			if gctx.Err() != nil {
				return gctx.Err() // the process ends, or a verdict could not be kept
			}
			return visit(gctx, i)
		})
	}
	if err := errors.Join(group.Wait(), ctx.Err()); err != nil {
		return report, err
	}
	if more {
		return report, errMore
	}
	if only.IsZero() {
		// The job's time is that of a part, of the looks that it began last, and of these.
		until := begun.Add(p.Part + looks*tenantTime)
		if err := again(ctx, unsettled(report.Tenants, seen, time.Now()), until, lookers(run), visit); err != nil {
			return report, err
		}
	}
	report.Shared, report.Reference = ground.findings, ground.ref.named()
	report.FinishedAt, report.OK = p.now(), true
	for _, t := range report.Tenants {
		report.OK = report.OK && t.Verdict == isolation.Proven
	}
	return report, nil
}

// parts returns what a run of all tenants has found of them in its earlier parts.
func (p *Prover) parts(ctx context.Context, run, only tenants.ID) (map[tenants.ID]isolation.Tenant, error) {
	if !only.IsZero() {
		return nil, nil
	}
	rows, err := p.q.IsolationParts(ctx, store.IsolationPartsParams{RunID: run, CellID: &p.CellID})
	if err != nil {
		return nil, fmt.Errorf("reading what the run has found: %w", err)
	}
	found := make(map[tenants.ID]isolation.Tenant, len(rows))
	for _, r := range rows {
		var t isolation.Tenant
		if err := json.Unmarshal(r.Part, &t); err != nil {
			return nil, fmt.Errorf("reading what the run has found: %w", err)
		}
		found[r.OrganizationID] = t
	}
	return found, nil
}

// now is the time to the second: what a report needs, in one form everywhere.
func (p *Prover) now() time.Time { return p.Now().UTC().Truncate(time.Second) }

func (p *Prover) subjects(ctx context.Context) ([]subject, error) {
	rows, err := p.q.IsolationTenants(ctx, &p.CellID)
	if err != nil {
		return nil, fmt.Errorf("listing tenants: %w", err)
	}
	out := make([]subject, 0, len(rows))
	for _, r := range rows {
		out = append(out, asSubject(store.IsolationTenantRow(r)))
	}
	return out, nil
}

func asSubject(r store.IsolationTenantRow) subject {
	return subject{id: r.ID, slug: r.Slug, state: r.State, gate: r.GateMode, gateVersion: r.GateVersion, gateApplied: r.GateApplied, keyAlive: r.KeyAlive}
}

// pairs says which pairs a proof of so many tenants tries, by the rounds before it.
func pairs(n, most int, before int64) isolation.Pairs {
	out := isolation.Pairs{Tenants: n, PerTenant: max(n-1, 0), All: true, Round: 1, Rounds: 1}
	if out.PerTenant > most {
		out.PerTenant, out.All = most, false
		out.Rounds = int64((n - 2 + most) / most)
		out.Round = before%out.Rounds + 1
	}
	return out
}

// sample returns whom the tenant is tried against: the next ones in the order of
// ids, further on with every round, so that all rounds together try every pair.
func sample(all []subject, t subject, k int, before int64) []subject {
	n := len(all)
	if n < 2 || k == 0 {
		return nil
	}
	at := slices.IndexFunc(all, func(s subject) bool { return s.id == t.id })
	rounds := int64((n - 2 + k) / k)
	first := int(before%rounds) * k
	out := make([]subject, 0, k)
	for j := range k {
		out = append(out, all[(at+1+(first+j)%(n-1))%n])
	}
	return out
}

// patientLook looks again before it says anything but proven, also at what all tenants
// stand on if the first look had anything of it, and for a while if the gate moves.
func (p *Prover) patientLook(ctx context.Context, t subject, peers []subject, ground *common) isolation.Tenant {
	var since time.Time
	begun := time.Now()
	for look := 1; ; look++ {
		shared, err := ground.since(ctx, since)
		s := p.look(ctx, t, peers, shared, err)
		now, err := p.subject(ctx, t.id)
		moved := gateMoved(t, now, err)
		out := s.done(moved)
		settled := !moved || out.Verdict == isolation.Failed || time.Since(begun) > gatePatience
		if out.Verdict == isolation.Proven || look >= looks && settled || ctx.Err() != nil {
			return out
		}
		if pause.For(ctx, settle) != nil {
			return out
		}
		if len(shared) > 0 {
			since = time.Now()
		}
		if now, err := p.subject(ctx, t.id); err == nil {
			t = now
		}
		for i := range peers {
			if now, err := p.subject(ctx, peers[i].id); err == nil {
				peers[i] = now
			}
		}
	}
}

// gateMoved tells whether the gate's decision was not carried out yet before a look, or is
// another one after it; err is why nobody can say what it is now.
func gateMoved(before, after subject, err error) bool {
	if err != nil {
		// No tenant any more has no gate to follow. Whatever else went wrong excuses nothing.
		return errors.Is(err, errNoTenant)
	}
	return before.gateApplied < before.gateVersion || after.gateVersion != before.gateVersion
}

// look tries everything once. Whether the tenants' common ground is sound is not known
// with unread.
func (p *Prover) look(ctx context.Context, t subject, peers []subject, shared []isolation.Finding, unread error) *sheet {
	ctx, cancel := context.WithTimeout(ctx, tenantTime)
	defer cancel()
	s := newSheet(t)
	s.t.Peers = make([]tenants.ID, 0, len(peers))
	for _, o := range peers {
		s.t.Peers = append(s.t.Peers, o.id)
	}
	for _, f := range shared {
		s.add(f)
	}
	if unread != nil {
		p.Log.ErrorContext(ctx, "what all tenants stand on could not be inspected", "tenant", t.id.String(), "error", unread)
		s.unproven("declared: what all tenants stand on: " + readable(unread))
	}
	own := p.declared(ctx, s, t)
	p.routes(ctx, s, t, peers)
	p.sql(ctx, s, t, peers, own)
	p.keys(ctx, s, t, peers)
	p.storage(ctx, s, t, peers)
	return s
}

// record keeps the verdict, and with a failed one quarantines the tenant. With whole,
// everything found is kept for the run's next part.
func (p *Prover) record(ctx context.Context, run tenants.ID, t isolation.Tenant, whole bool) error {
	var part []byte
	if whole {
		var err error
		if part, err = json.Marshal(t); err != nil {
			return fmt.Errorf("keeping what was found: %w", err)
		}
	}
	summary := ""
	switch t.Verdict {
	case isolation.Failed:
		summary = t.Findings[0].String()
	case isolation.Unproven:
		summary = t.Unproven[0]
	}
	return p.inControl(ctx, func(tx pgx.Tx, q *store.Queries) error {
		// The organization's row is locked before the result refers to it: the other
		// way round two locks of one row would wait for each other.
		if t.Verdict == isolation.Failed {
			if err := p.quarantine(ctx, tx, q, t); err != nil {
				return err
			}
		}
		if whole {
			if err := q.IsolationResultRetry(ctx, store.IsolationResultRetryParams{OrganizationID: t.ID, RunID: run}); err != nil {
				return fmt.Errorf("recording the verdict: %w", err)
			}
		}
		if err := q.IsolationResultAdd(ctx, store.IsolationResultAddParams{OrganizationID: t.ID, RunID: run, Verdict: string(t.Verdict),
			Findings: int32(len(t.Findings)), Summary: cut(summary, 1000), Part: part}); err != nil {
			return fmt.Errorf("recording the verdict: %w", err)
		}
		return nil
	})
}

// cut returns at most n characters of one line.
func cut(s string, n int) string {
	s = strings.Join(strings.Fields(s), " ")
	if r := []rune(s); len(r) > n {
		return string(r[:n-1]) + "…"
	}
	return s
}
