package members

import (
	"context"
	"time"

	"github.com/caresphere/caresphere/tenants"
)

// Resemble asks of Kratos, for an address that has an account, as much as enrolling it
// would have: a look for the address, and a code, which is good for a second and
// reaches nobody. So Kratos being slow, or away, or unable to write tells nobody which
// addresses have accounts. The error is KindUnavailable.
func (s *Service) Resemble(ctx context.Context, email string) error {
	id, err := s.ids.Find(ctx, email)
	if err == nil {
		_, _, err = s.ids.RecoveryCode(ctx, id, time.Second)
	}
	if tenants.IsKind(err, tenants.KindNotFound) {
		return nil // an account whose identity is gone
	}
	return err
}
