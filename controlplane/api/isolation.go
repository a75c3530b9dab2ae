package api

import (
	"context"
	"net/http"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/caresphere/caresphere/controlplane/isolation"
	"github.com/caresphere/caresphere/tenants"
)

// Isolation is what operators ask of proofs and repairs; see isolation.Service.
type Isolation interface {
	AskProof(ctx context.Context, a tenants.Actor, slug, cell string) (isolation.Status, error)
	AskRepair(ctx context.Context, a tenants.Actor, slug string, apply bool) (isolation.Status, error)
	Get(ctx context.Context, a tenants.Actor, id tenants.ID) (isolation.Status, error)
	Report(ctx context.Context, a tenants.Actor, id tenants.ID) ([]byte, error)
	Repair(ctx context.Context, a tenants.Actor, id tenants.ID) (isolation.Repair, error)
	Runs(ctx context.Context, a tenants.Actor) ([]isolation.Status, error)
	Standings(ctx context.Context, a tenants.Actor) ([]isolation.Standing, error)
	Of(ctx context.Context, a tenants.Actor, id tenants.ID) (isolation.Standing, bool, error)
	Quarantined(ctx context.Context) (int, error)
}

// IsolationRun is a proof or a repair, and how far it is.
type IsolationRun struct {
	ID         tenants.ID `json:"id"`
	Number     int64      `json:"number"`
	Kind       string     `json:"kind" enum:"proof,plan,repair"`
	Cell       string     `json:"cell"`
	Tenant     string     `json:"tenant,omitempty" doc:"The organization's short name; absent for all of the cell."`
	AskedBy    string     `json:"asked_by" enum:"schedule,operator,release"`
	State      string     `json:"state" enum:"waiting,running,done,failed"`
	Reason     string     `json:"reason,omitempty" doc:"Why a run failed."`
	OK         bool       `json:"ok" doc:"Every tenant is proven; of a plan: nothing differs."`
	Proven     int        `json:"proven"`
	Failed     int        `json:"failed"`
	Unproven   int        `json:"unproven"`
	AskedAt    time.Time  `json:"asked_at"`
	StartedAt  *time.Time `json:"started_at,omitempty"`
	FinishedAt *time.Time `json:"finished_at,omitempty"`
}

func showRun(s isolation.Status) IsolationRun {
	return IsolationRun{ID: s.ID, Number: s.Number, Kind: s.Kind, Cell: s.Cell, Tenant: s.Slug, AskedBy: s.AskedBy, State: s.State, Reason: s.Reason,
		OK: s.OK, Proven: s.Proven, Failed: s.Failed, Unproven: s.Unproven, AskedAt: s.AskedAt, StartedAt: s.StartedAt, FinishedAt: s.FinishedAt}
}

// IsolationRepair is a plan or a repair with what it found and did.
type IsolationRepair struct {
	IsolationRun
	Result *isolation.Repair `json:"result,omitempty" doc:"Present once the run is done."`
}

type isolationOutput struct{ Body IsolationRun }

type repairOutput struct{ Body IsolationRepair }

type isolationListOutput struct {
	Body struct {
		Items []IsolationRun `json:"items"`
	}
}

type proofInput struct {
	Body struct {
		Tenant string `json:"tenant,omitempty" maxLength:"39" doc:"An organization's short name; absent for all of a cell."`
		Cell   string `json:"cell,omitempty" maxLength:"31" doc:"May be left out if there is one cell."`
	}
}

type repairInput struct {
	Body struct {
		Tenant string `json:"tenant" minLength:"2" maxLength:"39" doc:"An organization's short name."`
		Apply  bool   `json:"apply,omitempty" doc:"Mend it; else only show the difference."`
	}
}

// RunPath names a run of isolation.
type RunPath struct {
	ID tenants.ID `path:"id" doc:"The run's id."`
}

type reportOutput struct {
	ContentType string `header:"Content-Type"`
	Body        []byte
}

// RegisterIsolation declares the operators' operations on proofs of isolation.
func RegisterIsolation(r Realm, d Isolation) {
	full, tags := r.Full(), []string{"Isolation"}
	huma.Register(r.API, huma.Operation{OperationID: "ask-isolation-proof", Method: http.MethodPost, Path: "/api/v1/isolation/proofs",
		Tags: tags, Summary: "Ask for a proof of isolation", Middlewares: full, DefaultStatus: http.StatusAccepted, MaxBodyBytes: 4 << 10,
		Description: "The provisioner of the cell makes it; a tenant that fails is quarantined at once.",
	}, func(ctx context.Context, in *proofInput) (*isolationOutput, error) {
		s, err := d.AskProof(ctx, Caller(ctx).Actor(), in.Body.Tenant, in.Body.Cell)
		return &isolationOutput{showRun(s)}, err
	})
	huma.Register(r.API, huma.Operation{OperationID: "list-isolation-runs", Method: http.MethodGet, Path: "/api/v1/isolation/proofs",
		Tags: tags, Summary: "The newest proofs and repairs", Middlewares: full,
	}, func(ctx context.Context, _ *struct{}) (*isolationListOutput, error) {
		list, err := d.Runs(ctx, Caller(ctx).Actor())
		if err != nil {
			return nil, err
		}
		out := &isolationListOutput{}
		out.Body.Items = make([]IsolationRun, 0, len(list))
		for _, s := range list {
			out.Body.Items = append(out.Body.Items, showRun(s))
		}
		return out, nil
	})
	huma.Register(r.API, huma.Operation{OperationID: "get-isolation-proof", Method: http.MethodGet, Path: "/api/v1/isolation/proofs/{id}",
		Tags: tags, Summary: "One proof and how far it is", Middlewares: full,
	}, func(ctx context.Context, in *RunPath) (*isolationOutput, error) {
		s, err := d.Get(ctx, Caller(ctx).Actor(), in.ID)
		return &isolationOutput{showRun(s)}, err
	})
	huma.Register(r.API, huma.Operation{OperationID: "get-isolation-report", Method: http.MethodGet, Path: "/api/v1/isolation/proofs/{id}/report",
		Tags: tags, Summary: "The signed report of a proof", Middlewares: full, Responses: answer("application/json", "The report with its signature, to the byte."),
		Description: "`caresphere isolation verify` checks it offline. 409 while the proof is not done.",
	}, func(ctx context.Context, in *RunPath) (*reportOutput, error) {
		b, err := d.Report(ctx, Caller(ctx).Actor(), in.ID)
		return &reportOutput{ContentType: "application/json", Body: b}, err
	})
	huma.Register(r.API, huma.Operation{OperationID: "ask-isolation-repair", Method: http.MethodPost, Path: "/api/v1/isolation/repairs",
		Tags: tags, Summary: "Show what differs from what is declared, or mend it", Middlewares: full, DefaultStatus: http.StatusAccepted, MaxBodyBytes: 4 << 10,
		Description: "A repair proves the tenant again. It never opens a gate: resuming the organization does, once its proof is green.",
	}, func(ctx context.Context, in *repairInput) (*isolationOutput, error) {
		s, err := d.AskRepair(ctx, Caller(ctx).Actor(), in.Body.Tenant, in.Body.Apply)
		return &isolationOutput{showRun(s)}, err
	})
	huma.Register(r.API, huma.Operation{OperationID: "get-isolation-repair", Method: http.MethodGet, Path: "/api/v1/isolation/repairs/{id}",
		Tags: tags, Summary: "One repair, and what it found and did", Middlewares: full,
	}, func(ctx context.Context, in *RunPath) (*repairOutput, error) {
		s, err := d.Get(ctx, Caller(ctx).Actor(), in.ID)
		if err != nil {
			return nil, err
		}
		out := &repairOutput{IsolationRepair{IsolationRun: showRun(s)}}
		if s.State == "done" {
			result, err := d.Repair(ctx, Caller(ctx).Actor(), in.ID)
			if err != nil {
				return nil, err
			}
			out.Body.Result = &result
		}
		return out, nil
	})
}
