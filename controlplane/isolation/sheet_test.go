package isolation

import (
	"errors"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/caresphere/caresphere/internal/isolation"
)

// What does not follow the gate is held against the tenant only where the gate stood still.
func TestAGateThatMovesIsNoFinding(t *testing.T) {
	at := func(version, applied int64) subject {
		return subject{gate: "closed", gateVersion: version, gateApplied: applied}
	}
	for name, test := range map[string]struct {
		before, after subject
		err           error
		moved         bool
	}{
		"it stood still":        {before: at(4, 4), after: at(4, 4)},
		"not carried out yet":   {before: at(4, 3), after: at(4, 3), moved: true},
		"carried out meanwhile": {before: at(4, 3), after: at(4, 4), moved: true},
		"decided anew":          {before: at(4, 4), after: at(5, 4), moved: true},
		"decided and done":      {before: at(4, 4), after: at(6, 6), moved: true},
		"no tenant any more":    {before: at(4, 4), err: errNoTenant, moved: true},
		"nobody can say":        {before: at(4, 4), err: errors.New("the database is away")},
	} {
		moved := gateMoved(test.before, test.after, test.err)
		require.Equal(t, test.moved, moved, name)
		for _, enter := range map[string]func(*sheet){
			"finding": func(s *sheet) {
				s.follows(isolation.Finding{Layer: isolation.LayerKey, Object: "key", Problem: "it serves"})
			},
			"attempt": func(s *sheet) { s.mustFollow(isolation.LayerRoute, "harbor", "its own probe", allowed, "") },
		} {
			s := newSheet(test.before)
			enter(s)
			want := isolation.Failed
			if moved {
				want = isolation.Unproven
			}
			require.Equal(t, want, s.done(moved).Verdict, name)
			// What has nothing to do with the gate counts all the same.
			s = newSheet(test.before)
			enter(s)
			s.found(isolation.LayerDeclared, "client", "policy client_select differs")
			require.Equal(t, isolation.Failed, s.done(moved).Verdict, name)
		}
	}
	s := newSheet(at(4, 4))
	s.mustFollow(isolation.LayerRoute, "harbor", "its own probe", refused, "")
	require.Equal(t, isolation.Proven, s.done(false).Verdict)
}
