package api_test

import (
	"context"
	"net/http"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/caresphere/caresphere/dataplane/dptest"
	"github.com/caresphere/caresphere/dataplane/session"
	"github.com/caresphere/caresphere/internal/identity"
	"github.com/caresphere/caresphere/tenants"
)

// stuck is a Kratos that answers once, and then only when it is told to.
type stuck struct {
	people *dptest.People
	asked  atomic.Int32
	over   atomic.Bool
	answer chan struct{}
}

// Whoami implements session.Identity.
func (k *stuck) Whoami(ctx context.Context, c identity.Credential) (identity.Session, error) {
	if k.asked.Add(1) > 1 {
		<-k.answer
	}
	if k.over.Load() {
		return identity.Session{}, tenants.NewError(tenants.KindUnauthenticated, "sign in first")
	}
	return k.people.Whoami(ctx, c)
}

// TestASessionInUseWaitsForNobody keeps a session busy while Kratos does not answer: it
// is asked in time, and the requests meanwhile are judged by its last answer. Once it
// says that the session is over, they are refused.
func TestASessionInUseWaitsForNobody(t *testing.T) {
	k := &stuck{answer: make(chan struct{})}
	cell := dptest.Start(t, dptest.WithIdentity(k), dptest.WithBelieve(session.Believe{Fresh: 50 * time.Millisecond, Keep: time.Minute}))
	k.people = cell.People
	org := cell.Tenant(t, "harbor", tenants.Residential)
	nurse := org.Person(t, tenants.RoleNurse, org.North)
	require.Eventually(t, func() bool {
		expect(t, nurse, http.StatusOK, "")
		return k.asked.Load() > 1
	}, 10*time.Second, 10*time.Millisecond, "it was never asked again")
	expect(t, nurse, http.StatusOK, "")
	require.EqualValues(t, 2, k.asked.Load(), "one question at a time")

	k.over.Store(true)
	close(k.answer)
	require.Eventually(t, func() bool { return nurse.Do(t, "GET", "/clients", nil).Status == http.StatusUnauthorized }, 5*time.Second, 10*time.Millisecond)
}
