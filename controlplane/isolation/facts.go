package isolation

import (
	"cmp"
	"context"
	_ "embed"
	"fmt"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/caresphere/caresphere/internal/isolation"
	"github.com/caresphere/caresphere/tenants"
)

//go:embed facts.sql
var factsSQL string

const (
	// ledger is the table of applied migrations: goose makes it, no migration does.
	ledger = "schema_version"
	// anyTenant stands for a tenant's schema and role, which have one name.
	anyTenant = "{tenant}"
	// longest is how much of a value a finding shows, in bytes.
	longest = 600
)

// fact is one thing that the catalog says, with the statements that make it so and
// that take it away; see facts.sql.
type fact struct {
	Rank                    int
	Object, Property, Value string
	Make, Unmake            string
	Replaces                bool
}

func (f fact) key() string { return f.Object + "\x00" + f.Property }

// querier is a connection or transaction of cell_owner's.
type querier interface {
	Exec(ctx context.Context, sql string, args ...any) (pgconn.CommandTag, error)
	Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error)
	QueryRow(ctx context.Context, sql string, args ...any) pgx.Row
}

// facts reads a schema in a transaction whose search_path is pg_catalog alone, so
// that every name is written in full.
func facts(ctx context.Context, tx querier, schema, role string) ([]fact, error) {
	rows, err := tx.Query(ctx, factsSQL, schema, role, ledger)
	if err != nil {
		return nil, fmt.Errorf("reading the catalog: %w", err)
	}
	list, err := pgx.CollectRows(rows, pgx.RowToStructByPos[fact])
	if err != nil {
		return nil, fmt.Errorf("reading the catalog: %w", err)
	}
	if role != "" {
		for i := range list {
			f := &list[i]
			for _, s := range []*string{&f.Object, &f.Property, &f.Value, &f.Make, &f.Unmake} {
				*s = strings.ReplaceAll(*s, schema, anyTenant)
			}
		}
	}
	return list, nil
}

// difference is what one object's property should be and is; nil on the side that
// has it not.
type difference struct{ declared, found *fact }

// compare returns the differences in the order of the facts. Of one object and
// property there may be several facts, as a right with and without grant option.
func compare(declared, found []fact) []difference {
	type full struct{ key, value string }
	of := func(f fact) full { return full{f.key(), f.Value} }
	index := func(list []fact) map[full]bool {
		m := make(map[full]bool, len(list))
		for _, f := range list {
			m[of(f)] = true
		}
		return m
	}
	have, want := index(found), index(declared)
	surplus := map[string]*fact{}
	var out []difference
	for i, f := range found {
		if !want[of(f)] {
			surplus[f.key()] = &found[i]
		}
	}
	for i, f := range declared {
		if have[of(f)] {
			continue
		}
		d := difference{declared: &declared[i], found: surplus[f.key()]}
		delete(surplus, f.key())
		out = append(out, d)
	}
	for _, f := range surplus {
		out = append(out, difference{found: f})
	}
	slices.SortFunc(out, func(a, b difference) int {
		x, y := a.either(), b.either()
		return cmp.Or(cmp.Compare(x.Rank, y.Rank), cmp.Compare(x.Object, y.Object), cmp.Compare(x.Property, y.Property))
	})
	return out
}

func (d difference) either() fact {
	if d.declared != nil {
		return *d.declared
	}
	return *d.found
}

// finding says the difference for the report.
func (d difference) finding() isolation.Finding {
	f := isolation.Finding{Layer: isolation.LayerDeclared, Object: d.either().Object, Problem: d.either().Property}
	if d.declared != nil {
		f.Declared = short(d.declared.Value)
	}
	if d.found != nil {
		f.Found = short(d.found.Value)
	}
	switch {
	case d.found == nil:
		f.Problem += " is missing"
	case d.declared == nil:
		f.Problem += " is not declared"
	default:
		f.Problem += " differs"
	}
	return f
}

func short(s string) string {
	if len(s) <= longest {
		return s
	}
	return strings.ToValidUTF8(s[:longest], "") + "…"
}

func findings(list []difference) []isolation.Finding {
	out := make([]isolation.Finding, 0, len(list))
	for _, d := range list {
		out = append(out, d.finding())
	}
	return out
}

// tables returns the names of the tables among the facts.
func tables(list []fact) []string {
	var out []string
	for _, f := range list {
		if f.Property == "kind" && (f.Value[0] == 'r' || f.Value[0] == 'p') {
			out = append(out, f.Object)
		}
	}
	return out
}

// statements returns what mends the differences: first what must go, the last
// things first, then what must come. Those that a statement cannot mend are left.
func statements(list []difference, tenant tenants.ID) (do []string, left []isolation.Finding) {
	name := tenants.SchemaName(tenant)
	add := func(sql ...string) {
		for _, s := range sql {
			do = append(do, strings.ReplaceAll(s, anyTenant, name))
		}
	}
	for _, d := range slices.Backward(list) {
		if d.found == nil || d.declared != nil && d.declared.Replaces {
			continue
		}
		switch {
		case d.found.Unmake == "table to set aside":
			add(setAside(d.found.Object)...)
		case d.found.Unmake != "":
			add(d.found.Unmake)
		case d.declared == nil || d.declared.Make == "":
			left = append(left, d.finding())
		}
	}
	for _, d := range list {
		switch {
		case d.declared == nil:
		case d.declared.Property == "owner" && d.found != nil:
			add("GRANT "+d.found.Value+" TO CURRENT_USER", d.declared.Make, "REVOKE "+d.found.Value+" FROM CURRENT_USER")
		case d.declared.Make != "":
			add(d.declared.Make)
		case d.found == nil || d.found.Unmake == "":
			left = append(left, d.finding())
		}
	}
	return do, left
}

// evidence is the schema that tables nobody declared are moved to: out of every
// tenant's reach, and kept for whoever looks into how they came.
const evidence = "isolation_evidence"

func setAside(table string) []string {
	at := pgx.Identifier{anyTenant, table}.Sanitize()
	at = strings.ReplaceAll(at, `"`+anyTenant+`"`, anyTenant)
	kept := "kept_" + tenants.NewID().Hex()
	return []string{
		"CREATE SCHEMA IF NOT EXISTS " + evidence,
		"REVOKE ALL ON TABLE " + at + " FROM PUBLIC, " + anyTenant,
		"COMMENT ON TABLE " + at + " IS 'found in " + anyTenant + " as " + strings.ReplaceAll(table, "'", "''") + "'",
		"ALTER TABLE " + at + " RENAME TO " + kept,
		"ALTER TABLE " + anyTenant + "." + kept + " SET SCHEMA " + evidence,
	}
}
