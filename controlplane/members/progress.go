package members

import (
	"context"
	"fmt"

	"github.com/caresphere/caresphere/controlplane/session"
	"github.com/caresphere/caresphere/controlplane/store"
	"github.com/caresphere/caresphere/tenants"
)

// Progress is where a person and their organization stand on the way to going live.
type Progress struct {
	Organization store.OnboardingOrganizationRow
	Next         session.Step
}

// Progress returns the next thing to do for the holder of a customer's session.
// Once the account is set up it is the organization's turn, which only an
// owner moves; everybody else waits until it is ready.
func (s *Service) Progress(ctx context.Context, cur session.Current) (Progress, error) {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	org, err := store.New(s.pool).OnboardingOrganization(ctx, cur.Account.OrganizationID)
	if err != nil {
		return Progress{}, fmt.Errorf("reading the organization: %w", err)
	}
	p := Progress{Organization: org, Next: cur.Step}
	if p.Next == "" {
		p.Next = nextOfOrganization(org, cur.Account.Owner)
	}
	return p, nil
}

func nextOfOrganization(org store.OnboardingOrganizationRow, owner bool) session.Step {
	switch baa := tenants.BAAState(org.BaaState); {
	case baa == tenants.BAASigned:
		return session.AwaitCountersignature
	case baa != tenants.BAAExecuted && owner:
		return session.SignBAA
	case baa != tenants.BAAExecuted:
		return session.AwaitCountersignature
	}
	switch tenants.State(org.State) {
	case tenants.StatePending, tenants.StateProvisioning, tenants.StateProvisioningFailed:
		return session.Provisioning
	}
	return session.Ready
}
