package e2e_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/caresphere/caresphere/internal/client"
	"github.com/caresphere/caresphere/internal/demo"
	"github.com/caresphere/caresphere/internal/devstack"
	"github.com/caresphere/caresphere/internal/testkit"
	"github.com/caresphere/caresphere/internal/testkit/prove"
)

// moment is a write of an act on an agreement at which the control plane is killed.
type moment struct {
	act int
	how testkit.FailAt
	at  int
	// drop has the server end the held write; else it is completed for nobody.
	drop bool
}

// signing is an organization whose agreement goes its way again and again.
type signing struct {
	*demo.Live
	operator *client.Client
	baa      client.BAA
}

func signature(name, authority string, b client.BAA) client.Signature {
	return client.Signature{Name: name, Title: "Executive Director", Authority: authority, Consent: true, Intent: true, DocumentSHA256: b.DocumentSHA256}
}

// acts are what happens to an agreement, in order, with the state that each leads to.
var acts = []struct {
	name, state string
	do          func(ctx context.Context, s *signing) error
}{
	{"draft", "draft", func(ctx context.Context, s *signing) (err error) {
		b, err := s.Owner.NewBAA(ctx)
		if err == nil {
			s.baa = b
		}
		return err
	}},
	{"sign", "signed", func(ctx context.Context, s *signing) error {
		_, err := s.Owner.SignBAA(ctx, s.baa.ID, signature("Olivia Hart", "I am authorized to bind the organization.", s.baa))
		return err
	}},
	{"countersign", "executed", func(ctx context.Context, s *signing) error {
		_, err := s.operator.CountersignBAA(ctx, s.baa.ID, signature("Riley Stone", "", s.baa))
		return err
	}},
	{"terminate", "terminated", func(ctx context.Context, s *signing) error {
		return s.operator.TerminateBAA(ctx, s.baa.ID, "for the test")
	}},
}

// agreementsWrong says where the organization's agreements and the trail disagree: each
// act that left its state has one entry, and nothing else has any.
const agreementsWrong = `SELECT coalesce(string_agg(format('%s: %s agreements, %s entries', act, reached, told), '; '), '') FROM (
	SELECT a.act,
		(SELECT count(*) FROM baa WHERE organization_id = $1 AND CASE a.act
			WHEN 'draft' THEN true WHEN 'sign' THEN customer_evidence IS NOT NULL AND signed_at IS NOT NULL
			WHEN 'countersign' THEN operator_evidence IS NOT NULL AND pdf IS NOT NULL AND bundle IS NOT NULL AND executed_at IS NOT NULL
			ELSE state = 'terminated' END) AS reached,
		(SELECT count(*) FROM audit_entry WHERE organization_id = $1 AND action = 'baa.' || a.act AND outcome = 'ok') AS told
	FROM unnest(ARRAY['draft', 'sign', 'countersign', 'terminate']) AS a(act)) AS counts WHERE reached <> told`

// TestKilledInAnAgreementItIsWholeOrNot kills the control plane in writes of every act
// on an agreement. What was asked for happened with its entry, or did not and happens at
// the next try; afterwards the organization is served under the last agreement.
// Nothing runs beside it.
func TestKilledInAnAgreementItIsWholeOrNot(t *testing.T) {
	w := here(t)
	s := &signing{Live: w.tenant(t, "signing"), operator: w.operator(t)}
	s.baa = s.BAA
	control := w.database(t, devstack.ControlDatabase)
	writes := testkit.CountWrites(t, w.Database(devstack.ControlDatabase), "public.baa", "public.audit_entry", "public.organization", "public.river_job")
	// Its gate follows meanwhile, in writes that are none of the acts'.
	writes.Except("provisioner")
	require.NoError(t, acts[3].do(within(t, time.Minute), s))

	// How many writes there are is counted, so that a new one is among them.
	var all []moment
	for i, act := range acts {
		writes.Begin()
		require.NoError(t, act.do(within(t, time.Minute), s), act.name)
		for _, how := range []testkit.FailAt{testkit.InStatement, testkit.AtCommit} {
			n := writes.Seen(how)
			require.Positive(t, n, "%s (%s)", act.name, how)
			for at := 1; at <= n; at++ {
				all = append(all, moment{i, how, at, at%2 == 0})
			}
		}
	}
	seed := uint64(time.Now().UnixNano())
	t.Logf("%d writes; drawn with seed %d", len(all), seed)
	draw := rand.New(rand.NewPCG(seed, 0))
	draw.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
	killed, wrong := 0, 0
	for _, m := range all {
		if killed == prove.Size(4, len(all)) {
			break
		}
		for i := range m.act {
			require.NoError(t, acts[i].do(within(t, time.Minute), s), acts[i].name)
		}
		if s.killed(t, w, writes, m) {
			killed++
		} else {
			t.Logf("%s came to no write %d (%s)", acts[m.act].name, m.at, m.how)
		}
		var left string
		require.NoError(t, control.QueryRow(within(t, 10*time.Second), agreementsWrong, s.ID).Scan(&left))
		if left != "" {
			t.Errorf("killed in write %d of %s (%s): %s", m.at, acts[m.act].name, m.how, left)
			wrong++
		}
		for i := s.done(t, control, m.act); i < len(acts); i++ {
			require.NoError(t, acts[i].do(within(t, time.Minute), s), "%s, again", acts[i].name)
		}
	}
	prove.State(t, prove.KilledAgreement, killed, wrong)
	var left string
	require.NoError(t, control.QueryRow(within(t, 10*time.Second), agreementsWrong, s.ID).Scan(&left))
	require.Empty(t, left)
	require.NoError(t, s.Agree(within(t, time.Minute), s.operator))
	until(t, time.Minute, "its gate is open again", func() (bool, string) {
		var how string
		require.NoError(t, control.QueryRow(within(t, 10*time.Second), `SELECT concat_ws(' ', state, gate_mode, gate_version, gate_applied, gate_reason, key_alive) FROM organization WHERE id = $1`, s.ID).Scan(&how))
		return strings.HasPrefix(how, "live open"), how
	})
	w.served(t, s.Live)

	// The twin: an agreement that nobody was told of.
	ctx := within(t, 10*time.Second)
	tx, err := control.Begin(ctx)
	require.NoError(t, err)
	_, err = tx.Exec(ctx, `INSERT INTO baa (id, organization_id, template_version, document, document_sha256)
		SELECT gen_random_uuid(), $1, 'v1', 'text', sha256('text')`, s.ID)
	require.NoError(t, err)
	require.NoError(t, tx.QueryRow(ctx, agreementsWrong, s.ID).Scan(&left))
	require.NoError(t, tx.Rollback(ctx))
	noticed := 0
	if left != "" {
		noticed++
	}
	prove.Plant(t, prove.KilledAgreement, 1, noticed)
}

// killed has an act begin, kills the control plane where the write waits, and lets the
// write go on for nobody or be ended. It is false when the act came to no such write.
func (s *signing) killed(t *testing.T, w *world, writes *testkit.Writes, m moment) bool {
	t.Helper()
	reached, release := writes.Hold(m.how, m.at)
	var doing sync.WaitGroup
	over := make(chan struct{})
	doing.Go(func() {
		defer close(over)
		_ = acts[m.act].do(within(t, time.Minute), s) // it may fail: its server is killed
	})
	there := false
	require.True(t, polled(30*time.Second, func() bool {
		there = reached()
		select {
		case <-over:
			return true
		default:
			return there
		}
	}), "%s never came to write %d (%s)", acts[m.act].name, m.at, m.how)
	before := w.PID(t, devstack.ControlPlane)
	w.Kill(t, devstack.ControlPlane)
	if there && m.drop {
		writes.Drop()
	}
	release()
	doing.Wait()
	until(t, 30*time.Second, "the control plane is back", func() (bool, string) {
		a, err := w.wire(t, w.URL(devstack.HealthPort(devstack.ControlPlane))).try(within(t, 2*time.Second), http.MethodGet, "/readyz", nil)
		return err == nil && a.status == http.StatusOK && w.PID(t, devstack.ControlPlane) != before, fmt.Sprint(a.status, err)
	})
	return there
}

// done says which act is the next one after an act that was interrupted: by the state
// that the agreement was left in.
func (s *signing) done(t *testing.T, control *pgx.Conn, act int) int {
	t.Helper()
	var id, state string
	require.NoError(t, control.QueryRow(within(t, 10*time.Second), `SELECT id, state FROM baa WHERE organization_id = $1 ORDER BY created_at DESC, id DESC LIMIT 1`, s.ID).Scan(&id, &state))
	if state != acts[act].state {
		return act
	}
	b, err := s.Owner.CurrentBAA(within(t, time.Minute))
	require.NoError(t, err)
	require.Equal(t, id, b.ID)
	s.baa = b
	return act + 1
}
