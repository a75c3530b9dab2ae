package census

import (
	"context"
	"fmt"
	"iter"
	"time"

	"github.com/caresphere/caresphere/controlplane/store"
	"github.com/caresphere/caresphere/internal/identity"
	"github.com/caresphere/caresphere/tenants"
)

// Identities is what a census needs of the customers' identity server.
type Identities interface {
	List(ctx context.Context) iter.Seq2[identity.Listed, error]
}

// DefaultSettle is how old an identity without an account must be to count.
const DefaultSettle = 15 * time.Minute

// nobody is an identity that can sign in to nothing.
const nobody = "belongs to no account"

// people compares accounts and identities, of all cells. An account is written in the
// transaction in which its identity is made, so that one of a sign-up under way, or of
// one that was cut off just now and will be repeated, is no finding yet.
func (c Config) people(ctx context.Context, report *Report) error {
	q := store.New(c.Control)
	before, err := q.CensusAccounts(ctx)
	if err != nil {
		return fmt.Errorf("listing accounts: %w", err)
	}
	there := map[tenants.ID]time.Time{}
	for i, err := range c.Identities.List(ctx) {
		if err != nil {
			return fmt.Errorf("listing identities: %w", err)
		}
		there[i.ID] = i.CreatedAt
	}
	after, err := q.CensusAccounts(ctx)
	if err != nil {
		return fmt.Errorf("listing accounts: %w", err)
	}
	report.Things[Identity] = len(there)
	known := map[tenants.ID]bool{}
	for _, a := range after {
		known[a.IdentityID] = true
	}
	for _, a := range before {
		if _, ok := there[a.IdentityID]; !ok && known[a.IdentityID] {
			report.Findings = append(report.Findings, Finding{Kind: Identity, Name: a.IdentityID.String(), Slug: a.Slug, Problem: missing})
		}
	}
	for id, made := range there {
		if !known[id] && time.Since(made) > c.Settle {
			report.Findings = append(report.Findings, Finding{Kind: Identity, Name: id.String(), Problem: nobody})
		}
	}
	return nil
}
