package isolation

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/caresphere/caresphere/controlplane/acts"
	"github.com/caresphere/caresphere/controlplane/jobs"
	"github.com/caresphere/caresphere/controlplane/store"
	"github.com/caresphere/caresphere/internal/audit"
	"github.com/caresphere/caresphere/tenants"
)

// Service is what operators ask of proofs and repairs. It does none of the work:
// the provisioner of the cell does, as a job.
type Service struct {
	pool *pgxpool.Pool
	jobs Jobs
}

// NewService returns a service over the control plane's pool.
func NewService(pool *pgxpool.Pool, j Jobs) *Service { return &Service{pool, j} }

// Status is a run and how far it is.
type Status struct {
	ID     tenants.ID
	Number int64
	Kind   string
	Cell   string
	// TenantID is NilID for a proof of all; Slug is empty then.
	TenantID tenants.ID
	Slug     string
	AskedBy  string
	State    string
	Reason   string
	OK       bool
	// Proven, Failed and Unproven count tenants.
	Proven, Failed, Unproven int
	AskedAt                  time.Time
	StartedAt, FinishedAt    *time.Time
}

// Standing is the newest verdict on an organization.
type Standing struct {
	ID              tenants.ID
	Slug, LegalName string
	State           string
	Verdict         string
	Findings        int
	Summary         string
	ProvedAt        time.Time
	RunID           tenants.ID
}

func operator(a tenants.Actor) error {
	switch {
	case a.Kind != tenants.ActorOperator || a.ID.IsZero():
		return tenants.NewError(tenants.KindForbidden, "only an operator may do this")
	case a.AuthenticatedAt.IsZero():
		return tenants.NewError(tenants.KindSecondFactor, "sign in with your second factor")
	}
	return nil
}

// AskProof asks for a proof: of one tenant by its short name, or with none of all
// tenants of a cell; the cell may be left out if there is one. Errors:
// KindForbidden, KindSecondFactor, KindNotFound, KindInvalid.
func (s *Service) AskProof(ctx context.Context, a tenants.Actor, slug, cell string) (Status, error) {
	return s.ask(ctx, a, kindProof, slug, cell)
}

// AskRepair asks for the difference of one tenant, and with apply to mend it. A
// repair never opens a gate: that is Resume's. Errors as AskProof.
func (s *Service) AskRepair(ctx context.Context, a tenants.Actor, slug string, apply bool) (Status, error) {
	kind := kindPlan
	if apply {
		kind = kindRepair
	}
	if slug == "" {
		return Status{}, tenants.Invalid("body.tenant", "must be an organization's short name")
	}
	return s.ask(ctx, a, kind, slug, "")
}

func (s *Service) ask(ctx context.Context, a tenants.Actor, kind, slug, cell string) (Status, error) {
	id := tenants.NewID()
	ev := audit.Event{Action: "isolation.ask", RecordType: "isolation_run", RecordID: id.String(), Detail: map[string]string{"kind": kind, "tenant": slug}}
	err := acts.Do(ctx, s.pool, a, ev, func(tx pgx.Tx, ev *audit.Event) error {
		if err := operator(a); err != nil {
			return err
		}
		q := store.New(tx)
		run := store.IsolationAskParams{ID: id, Kind: kind, AskedBy: "operator"}
		if slug != "" {
			place, err := q.IsolationPlace(ctx, slug)
			if errors.Is(err, pgx.ErrNoRows) || err == nil && place.CellID == nil {
				return tenants.NotFound()
			}
			if err != nil {
				return fmt.Errorf("reading the organization: %w", err)
			}
			run.OrganizationID, run.CellID, ev.OrganizationID = &place.ID, *place.CellID, place.ID
		} else {
			var err error
			if run.CellID, err = oneCell(ctx, q, cell); err != nil {
				return err
			}
		}
		if err := q.IsolationAsk(ctx, run); err != nil {
			return fmt.Errorf("asking for the run: %w", err)
		}
		_, err := s.jobs.InsertTx(ctx, tx, jobs.Isolation{RunID: id, Cell: run.CellID}, nil)
		return wrap(err, "asking for the run")
	})
	if err != nil {
		return Status{}, err
	}
	return s.Get(ctx, a, id)
}

func oneCell(ctx context.Context, q *store.Queries, cell string) (string, error) {
	cells, err := q.IsolationCells(ctx)
	if err != nil {
		return "", fmt.Errorf("listing cells: %w", err)
	}
	for _, c := range cells {
		if c == cell || cell == "" && len(cells) == 1 {
			return c, nil
		}
	}
	if cell == "" && len(cells) > 1 {
		return "", tenants.Invalid("body.cell", "must name one of the cells")
	}
	return "", tenants.NotFound()
}

// Get returns a run. Operators only.
func (s *Service) Get(ctx context.Context, a tenants.Actor, id tenants.ID) (Status, error) {
	if err := operator(a); err != nil {
		return Status{}, err
	}
	row, err := store.New(s.pool).IsolationRun(ctx, id)
	if errors.Is(err, pgx.ErrNoRows) {
		return Status{}, tenants.NotFound()
	}
	if err != nil {
		return Status{}, fmt.Errorf("reading the run: %w", err)
	}
	return status(store.IsolationRunsRow(row)), nil
}

func status(r store.IsolationRunsRow) Status {
	out := Status{ID: r.ID, Number: r.Number, Kind: r.Kind, Cell: r.CellID, Slug: r.Slug, AskedBy: r.AskedBy, State: r.State, Reason: r.Reason, OK: r.Ok,
		Proven: int(r.Proven), Failed: int(r.Failed), Unproven: int(r.Unproven), AskedAt: r.AskedAt, StartedAt: r.StartedAt, FinishedAt: r.FinishedAt}
	if r.OrganizationID != nil {
		out.TenantID = *r.OrganizationID
	}
	return out
}

// Report returns a proof's signed report, as isolation.Verify reads it.
// KindConflict while the proof is not done.
func (s *Service) Report(ctx context.Context, a tenants.Actor, id tenants.ID) ([]byte, error) {
	return s.document(ctx, a, id, func(kind string) bool { return kind == kindProof })
}

// Repair returns what a plan or a repair found and did. KindConflict while it is
// not done.
func (s *Service) Repair(ctx context.Context, a tenants.Actor, id tenants.ID) (Repair, error) {
	var r Repair
	b, err := s.document(ctx, a, id, func(kind string) bool { return kind != kindProof })
	if err != nil {
		return r, err
	}
	if err := json.Unmarshal(b, &r); err != nil {
		return r, fmt.Errorf("reading the repair: %w", err)
	}
	return r, nil
}

func (s *Service) document(ctx context.Context, a tenants.Actor, id tenants.ID, of func(string) bool) ([]byte, error) {
	if err := operator(a); err != nil {
		return nil, err
	}
	d, err := store.New(s.pool).IsolationDocument(ctx, id)
	if errors.Is(err, pgx.ErrNoRows) || err == nil && !of(d.Kind) {
		return nil, tenants.NotFound()
	}
	if err != nil {
		return nil, fmt.Errorf("reading the run: %w", err)
	}
	if d.State != "done" {
		return nil, tenants.NewError(tenants.KindConflict, "the run is "+d.State)
	}
	return d.Document, nil
}

const shown = 200

// Runs returns the newest runs. Operators only.
func (s *Service) Runs(ctx context.Context, a tenants.Actor) ([]Status, error) {
	if err := operator(a); err != nil {
		return nil, err
	}
	rows, err := store.New(s.pool).IsolationRuns(ctx, shown)
	if err != nil {
		return nil, fmt.Errorf("listing runs: %w", err)
	}
	out := make([]Status, 0, len(rows))
	for _, r := range rows {
		out = append(out, status(r))
	}
	return out, nil
}

// Standings returns the newest verdict on each organization, those in trouble
// first. Operators only.
func (s *Service) Standings(ctx context.Context, a tenants.Actor) ([]Standing, error) {
	if err := operator(a); err != nil {
		return nil, err
	}
	rows, err := store.New(s.pool).IsolationVerdicts(ctx, shown)
	if err != nil {
		return nil, fmt.Errorf("listing verdicts: %w", err)
	}
	out := make([]Standing, 0, len(rows))
	for _, r := range rows {
		out = append(out, Standing{ID: r.ID, Slug: r.Slug, LegalName: r.LegalName, State: r.State, Verdict: r.Verdict, Findings: int(r.Findings),
			Summary: r.Summary, ProvedAt: r.ProvedAt, RunID: r.RunID})
	}
	return out, nil
}

// Of returns the newest verdict on one organization; false if it was never proven.
func (s *Service) Of(ctx context.Context, a tenants.Actor, id tenants.ID) (Standing, bool, error) {
	if err := operator(a); err != nil {
		return Standing{}, false, err
	}
	r, err := store.New(s.pool).IsolationNewest(ctx, id)
	if errors.Is(err, pgx.ErrNoRows) {
		return Standing{}, false, nil
	}
	if err != nil {
		return Standing{}, false, fmt.Errorf("reading the newest verdict: %w", err)
	}
	return Standing{ID: r.OrganizationID, Verdict: r.Verdict, Findings: int(r.Findings), Summary: r.Summary, ProvedAt: r.ProvedAt, RunID: r.RunID}, true, nil
}

// Quarantined counts the organizations that are quarantined, for the banner.
func (s *Service) Quarantined(ctx context.Context) (int, error) {
	n, err := store.New(s.pool).IsolationQuarantined(ctx)
	return int(n), wrap(err, "counting quarantined organizations")
}
