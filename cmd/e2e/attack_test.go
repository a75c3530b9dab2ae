package e2e_test

import (
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/caresphere/caresphere/internal/client"
	"github.com/caresphere/caresphere/internal/demo"
)

// front is where the attacks meet: a victim, an attacker of another tenant, and the
// descriptions that the attacks are made from.
type front struct {
	w                        *world
	theirs, mine             *ward
	token                    *client.Client // the attacker's owner, by token
	data, control, operators *document
	limit                    time.Duration
}

// TestNoRequestReachesAnotherTenantOrFacility makes its requests from the APIs' own
// descriptions: every operation, every place where a record or a tenant can be named,
// every session that must not count, every method. What it cannot fill in fails it.
func TestNoRequestReachesAnotherTenantOrFacility(t *testing.T) {
	t.Parallel()
	w := here(t)
	var theirs, mine *demo.Live
	ended := make(chan struct{})
	w.operator(t)
	go func() { defer close(ended); theirs = w.tenant(t, "victim") }()
	mine = w.tenant(t, "stranger")
	<-ended
	require.NotNil(t, theirs)
	f := &front{w: w, theirs: furnish(t, theirs), mine: furnish(t, mine), token: w.bearer(t, mine.Owner), limit: 5 * time.Minute}
	x := w.wire(t, w.Origin())
	f.data = describe(t, x, "/t/openapi.json", "dataplane.json")
	f.control = describe(t, x, "/openapi.json", "controlplane.json")
	f.operators = describe(t, w.wire(t, w.OperatorOrigin()), "/openapi.json", "operators.json")
	t.Run("foreign ids", f.foreignIDs)
	t.Run("sessions", f.sessions)
	t.Run("methods", f.methods)
	t.Run("planted leaks", f.leaks)
	t.Run("planted operations", f.forgotten)
	t.Run("idempotency keys", f.keys)
	t.Run("allowed twins", f.twins)
}

// contains tells whether one of the words is in the text.
func contains(s string, words ...string) bool {
	for _, one := range words {
		if one != "" && strings.Contains(s, one) {
			return true
		}
	}
	return false
}
