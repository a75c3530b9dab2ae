package isolation

import (
	"time"

	"github.com/caresphere/caresphere/tenants"
)

// Version is that of the report's form.
const Version = 1

// Verdict is what a proof says of one tenant.
type Verdict string

// The verdicts.
const (
	// Proven: every refusal refused, every twin succeeded, everything is as declared.
	Proven Verdict = "proven"
	// Failed: something that must be refused was not, or something is not as declared.
	Failed Verdict = "failed"
	// Unproven: nothing wrong was found, but a part did not answer, or a twin did not
	// succeed, so that refusals beside it prove nothing.
	Unproven Verdict = "unproven"
)

// The layers of a proof.
const (
	LayerRoute    = "route"
	LayerSession  = "session"
	LayerSQL      = "sql"
	LayerContext  = "context"
	LayerKey      = "key"
	LayerStorage  = "storage"
	LayerDeclared = "declared"
)

// Report is one proof over the tenants of a cell.
type Report struct {
	Version int        `json:"version"`
	ID      tenants.ID `json:"id"`
	// Number counts the runs of the platform.
	Number int64  `json:"number"`
	Cell   string `json:"cell"`
	// Scope is "all", or the one tenant's short name.
	Scope      string    `json:"scope"`
	StartedAt  time.Time `json:"started_at"`
	FinishedAt time.Time `json:"finished_at"`
	// OK says that every tenant is proven.
	OK        bool      `json:"ok"`
	Reference Reference `json:"reference"`
	Pairs     Pairs     `json:"pairs"`
	// Attempts lists what was tried, once for all tenants.
	Attempts []Attempt `json:"attempts"`
	// Shared are the differences in what all tenants of the cell stand on; each
	// counts against every one of them.
	Shared  []Finding `json:"shared"`
	Tenants []Tenant  `json:"tenants"`
}

// Reference names what schemas were compared with: the set that the migrations at
// these versions produce.
type Reference struct {
	TenantVersion int64  `json:"tenant_version"`
	CellVersion   int64  `json:"cell_version"`
	Facts         int    `json:"facts"`
	SHA256        string `json:"sha256"`
}

// Pairs says which pairs of tenants were tried.
type Pairs struct {
	Tenants int `json:"tenants"`
	// PerTenant is against how many others each was tried; All says that these are all.
	PerTenant int  `json:"per_tenant"`
	All       bool `json:"all"`
	// Round of Rounds: as many proofs of all in a row try every pair. A proof of one
	// tenant is of any.
	Round  int64 `json:"round"`
	Rounds int64 `json:"rounds"`
}

// Attempt is a refusal with the success that shows that it is not one of everything.
type Attempt struct {
	Layer   string `json:"layer"`
	Refused string `json:"refused"`
	Allowed string `json:"allowed"`
}

// Tenant is what was found of one.
type Tenant struct {
	ID    tenants.ID `json:"id"`
	Slug  string     `json:"slug"`
	State string     `json:"state"`
	// Gate is the mode in which the tenant was tried: of a closed one even its own
	// access must be refused.
	Gate    string  `json:"gate"`
	Verdict Verdict `json:"verdict"`
	// Peers are the others that it was tried against.
	Peers  []tenants.ID `json:"peers"`
	Layers []Layer      `json:"layers"`
	// Findings make the verdict failed, Unproven makes it unproven.
	Findings []Finding `json:"findings"`
	Unproven []string  `json:"unproven"`
}

// Layer counts what was tried at one layer and went as it must.
type Layer struct {
	Layer   string `json:"layer"`
	Refused int    `json:"refused"`
	Allowed int    `json:"allowed"`
}

// Finding is one way in which a tenant is not isolated, or not as declared.
type Finding struct {
	Layer    string `json:"layer"`
	Object   string `json:"object"`
	Problem  string `json:"problem"`
	Declared string `json:"declared,omitempty"`
	Found    string `json:"found,omitempty"`
}

// String says the finding in one line.
func (f Finding) String() string {
	s := f.Layer + ": " + f.Object + ": " + f.Problem
	if f.Declared != "" || f.Found != "" {
		s += " (declared " + orNone(f.Declared) + ", found " + orNone(f.Found) + ")"
	}
	return s
}

func orNone(s string) string {
	if s == "" {
		return "nothing"
	}
	return s
}
