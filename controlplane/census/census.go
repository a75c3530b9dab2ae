package census

import (
	"context"
	_ "embed"
	"fmt"
	"iter"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/caresphere/caresphere/controlplane/store"
	"github.com/caresphere/caresphere/internal/blob"
	"github.com/caresphere/caresphere/internal/kms/driver"
	"github.com/caresphere/caresphere/tenants"
)

// Keys is what a census needs of the KMS.
type Keys interface {
	Names(ctx context.Context) ([]string, error)
}

// Objects is what a census needs of the object store.
type Objects interface {
	List(ctx context.Context, prefix string) iter.Seq2[blob.Object, error]
}

// Config is what a census looks at.
type Config struct {
	// Control is a pool of the provisioner's role in the control database, Cell one of
	// cell_owner's in the cell's.
	Control, Cell *pgxpool.Pool
	CellID        string
	Keys          Keys
	Objects       Objects
	// Identities is optional: without it, nobody's identity is looked at. Settle is how
	// old one without an account must be to count.
	Identities Identities
	Settle     time.Duration
	// Routes is optional: without it, no route is looked at. What is wrong with one is
	// looked at again after RouteSettle; zero is 5 seconds.
	Routes      Routes
	RouteSettle time.Duration
}

// Kind is a sort of thing that belongs to one organization each.
type Kind string

// The kinds. A fence stays with an organization for good, and none has to have one.
const (
	Schema     Kind = "schema"
	Role       Kind = "role"
	Credential Kind = "credential"
	ContextKey Kind = "context key"
	Key        Kind = "key"
	Prefix     Kind = "prefix"
	Fence      Kind = "fence"
	// Identity belongs to an account of any cell's organization.
	Identity Kind = "identity"
	// Route is what routers and workers are told: whom they may serve, and where.
	Route Kind = "route"
)

// needed are the kinds that an organization past provisioning must have.
var needed = []Kind{Schema, Role, Credential, ContextKey, Key, Prefix}

// Finding is one thing too many or too few.
type Finding struct {
	Kind Kind `json:"kind"`
	// Name is what the thing is called where it lies.
	Name string `json:"name"`
	// Slug is the organization's short name, if there is one.
	Slug    string `json:"organization,omitempty"`
	Problem string `json:"problem"`
}

// String says the finding in one line.
func (f Finding) String() string {
	s := string(f.Kind) + " " + f.Name
	if f.Slug != "" {
		s += " of " + f.Slug
	}
	return s + ": " + f.Problem
}

// Report is what a census counted and found. Organizations are those placed in the cell;
// Skipped are the kinds that it was not given the means to look at.
type Report struct {
	Cell          string       `json:"cell"`
	Organizations int          `json:"organizations"`
	Things        map[Kind]int `json:"things"`
	Skipped       []Kind       `json:"not_looked_at"`
	Findings      []Finding    `json:"findings"`
}

// What a finding can say.
const (
	orphan  = "belongs to no organization"
	early   = "exists for an organization that may not have it yet"
	missing = "is missing"
	// What an organization that moved to another cell leaves behind.
	elsewhere = "belongs to an organization of another cell"
)

//go:embed things.sql
var thingsSQL string

// Take counts. An organization that comes or goes meanwhile is no finding: the
// organizations are read before and after the things. An error means that a part did
// not answer; then nothing is known.
func Take(ctx context.Context, c Config) (Report, error) {
	q := store.New(c.Control)
	before, err := q.CensusOrganizations(ctx)
	if err != nil {
		return Report{}, fmt.Errorf("listing organizations: %w", err)
	}
	things, err := c.things(ctx)
	if err != nil {
		return Report{}, err
	}
	after, err := q.CensusOrganizations(ctx)
	if err != nil {
		return Report{}, fmt.Errorf("listing organizations: %w", err)
	}
	report := Report{Cell: c.CellID, Things: map[Kind]int{}, Skipped: c.skipped(), Findings: []Finding{}}
	for kind, names := range things {
		report.Things[kind] = len(names)
	}
	for _, o := range after {
		if o.Cell == c.CellID {
			report.Organizations++
		}
	}
	report.Findings = append(c.tooMany(things, after), c.tooFew(things, before, after)...)
	if c.Identities != nil {
		if err := c.people(ctx, &report); err != nil {
			return Report{}, err
		}
	}
	if c.Routes != nil {
		if err := c.paths(ctx, &report); err != nil {
			return Report{}, err
		}
	}
	slices.SortFunc(report.Findings, func(a, b Finding) int { return strings.Compare(a.String(), b.String()) })
	return report, nil
}

func (c Config) skipped() []Kind {
	all := []Kind{}
	if c.Identities == nil {
		all = append(all, Identity)
	}
	if c.Routes == nil {
		all = append(all, Route)
	}
	return all
}

// tooMany finds things of nobody, and of organizations that have signed nothing yet.
func (c Config) tooMany(things map[Kind]map[string]bool, organizations []store.CensusOrganizationsRow) (found []Finding) {
	known := map[string]store.CensusOrganizationsRow{}
	for _, o := range organizations {
		known[o.ID.Hex()], known[driver.KeyName(o.ID)] = o, o
	}
	for kind, names := range things {
		for name := range names {
			o, ok := known[name]
			switch {
			case !ok:
				found = append(found, Finding{Kind: kind, Name: name, Problem: orphan})
			case kind == Fence:
			case tenants.State(o.State) == tenants.StatePending:
				found = append(found, Finding{Kind: kind, Name: name, Slug: o.Slug, Problem: early})
			case o.Cell != c.CellID && kind != Key && kind != Prefix:
				found = append(found, Finding{Kind: kind, Name: name, Slug: o.Slug, Problem: elsewhere})
			}
		}
	}
	return found
}

// tooFew finds what organizations lack that were past provisioning all the time.
func (c Config) tooFew(things map[Kind]map[string]bool, before, after []store.CensusOrganizationsRow) (found []Finding) {
	still := map[tenants.ID]bool{}
	for _, o := range after {
		still[o.ID] = complete(tenants.State(o.State))
	}
	for _, o := range before {
		if o.Cell != c.CellID || !complete(tenants.State(o.State)) || !still[o.ID] {
			continue
		}
		for _, kind := range needed {
			name := o.ID.Hex()
			if kind == Key {
				name = driver.KeyName(o.ID)
			}
			if !things[kind][name] {
				found = append(found, Finding{Kind: kind, Name: name, Slug: o.Slug, Problem: missing})
			}
		}
		if o.Unfinished > 0 {
			found = append(found, Finding{Kind: "step", Name: fmt.Sprint(o.Unfinished), Slug: o.Slug, Problem: "is not recorded as done"})
		}
	}
	return found
}

// complete tells whether an organization of the state has everything.
func complete(s tenants.State) bool {
	switch s {
	case tenants.StateLive, tenants.StateReadOnly, tenants.StateSuspended, tenants.StateQuarantined:
		return true
	}
	return false
}

func (c Config) things(ctx context.Context) (map[Kind]map[string]bool, error) {
	all := map[Kind]map[string]bool{}
	for _, kind := range append(slices.Clone(needed), Fence) {
		all[kind] = map[string]bool{}
	}
	rows, err := c.Cell.Query(ctx, thingsSQL)
	if err != nil {
		return nil, fmt.Errorf("listing what is in the cell: %w", err)
	}
	var kind, name string
	if _, err := pgx.ForEachRow(rows, []any{&kind, &name}, func() error { all[Kind(kind)][name] = true; return nil }); err != nil {
		return nil, fmt.Errorf("listing what is in the cell: %w", err)
	}
	keys, err := c.Keys.Names(ctx)
	if err != nil {
		return nil, fmt.Errorf("listing keys: %w", err)
	}
	for _, k := range keys {
		all[Key][k] = true
	}
	for o, err := range c.Objects.List(ctx, "t/") {
		if err != nil {
			return nil, fmt.Errorf("listing prefixes: %w", err)
		}
		prefix, _, _ := strings.Cut(strings.TrimPrefix(o.Key, "t/"), "/")
		all[Prefix][prefix] = true
	}
	return all, nil
}
