package records

import (
	"context"

	"github.com/caresphere/caresphere/tenants"
)

// Teller tells the control plane what was decided about a member or a session, once it
// is committed. It returns after seconds at most and has no error: what it could not
// tell it tells later.
type Teller interface {
	Tell(ctx context.Context, tenant, about tenants.ID)
}
