package provisioning_test

import (
	"context"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/caresphere/caresphere/controlplane/provisioning"
	"github.com/caresphere/caresphere/internal/kms"
	"github.com/caresphere/caresphere/internal/pg"
	"github.com/caresphere/caresphere/tenants"
)

// heldKeys are the real keys, with what a test does before one is made and after one
// is enabled, and a count of how often one was switched.
type heldKeys struct {
	kms.KMS
	ensure, enabled func()
	switched        atomic.Int64
}

func (k *heldKeys) Ensure(ctx context.Context, key string) error {
	if k.ensure != nil {
		k.ensure()
	}
	return k.KMS.Ensure(ctx, key)
}

func (k *heldKeys) Enable(ctx context.Context, key string) error {
	k.switched.Add(1)
	err := k.KMS.Enable(ctx, key)
	if k.enabled != nil {
		k.enabled()
	}
	return err
}

func (k *heldKeys) Disable(ctx context.Context, key string) error {
	k.switched.Add(1)
	return k.KMS.Disable(ctx, key)
}

// readOf holds its process each time that it has read a gate's decision.
type readOf struct {
	read func()
}

type readKey struct{}

func (readOf) TraceQueryStart(ctx context.Context, _ *pgx.Conn, d pgx.TraceQueryStartData) context.Context {
	return context.WithValue(ctx, readKey{}, strings.Contains(d.SQL, "name: GateDecision"))
}

func (r readOf) TraceQueryEnd(ctx context.Context, _ *pgx.Conn, _ pgx.TraceQueryEndData) {
	if ctx.Value(readKey{}) == true {
		r.read()
	}
}

// decided plants a newer decision, as if its job were lost.
func (b *bundle) decided(t testing.TB, id tenants.ID, mode tenants.GateMode) {
	t.Helper()
	b.exec(t, `UPDATE organization SET gate_mode = $2, gate_version = gate_version + 1, updated_at = now() WHERE id = $1`, id, string(mode))
}

// requireGate looks whether role and key are as an open or a closed gate leaves them.
func (b *bundle) requireGate(t testing.TB, id tenants.ID, open bool) {
	t.Helper()
	want := map[bool]string{true: "true alive", false: "false disabled"}[open]
	status, err := b.keys.Status(context.Background(), kms.KeyName(id))
	require.NoError(t, err)
	require.Equal(t, want, b.cellText(t, `SELECT rolcanlogin::text FROM pg_roles WHERE rolname = $1`, tenants.RoleName(id))+" "+string(status.State))
}

// TestAStaleDecisionReachesNeitherKeyNorRole stops one that has read a decision until
// another has applied a newer one, lets it go on, and kills it before it looks again.
func TestAStaleDecisionReachesNeitherKeyNorRole(t *testing.T) {
	ctx, b := context.Background(), setup(t)
	for _, stale := range []tenants.GateMode{tenants.GateOpen, tenants.GateClosed} {
		newer, staleOpen := tenants.GateClosed, stale == tenants.GateOpen
		if !staleOpen {
			newer = tenants.GateOpen
		}
		for _, overtaken := range []bool{true, false} {
			name := string(stale) + map[bool]string{true: " overtaken", false: " in time"}[overtaken]
			t.Run(name, func(t *testing.T) {
				o := b.provisioned(t)
				if staleOpen {
					b.decided(t, o.id, tenants.GateClosed)
					require.NoError(t, b.p.ApplyGate(ctx, o.id))
				}
				reached, release := make(chan struct{}), make(chan struct{})
				alive, kill := context.WithCancel(ctx)
				defer kill()
				reads := 0
				c, keys := b.config, &heldKeys{KMS: b.keys}
				c.Keys = keys
				c.Control = open(t, b.control.DSN("provisioner"), pg.Options{Tracer: readOf{func() {
					if reads++; reads == 1 {
						close(reached)
						<-release
						return
					}
					kill()
				}}})
				p, err := provisioning.New(c)
				require.NoError(t, err)
				b.decided(t, o.id, stale)
				var work sync.WaitGroup
				work.Go(func() { _ = p.ApplyGate(alive, o.id) })
				<-reached
				want := staleOpen
				if overtaken {
					want = !staleOpen
					b.decided(t, o.id, newer)
					require.NoError(t, b.p.ApplyGate(ctx, o.id))
				}
				close(release)
				work.Wait()
				b.requireGate(t, o.id, want)
				if overtaken {
					require.Zero(t, keys.switched.Load(), "the key was switched by an older decision")
				} else {
					require.Equal(t, int64(1), keys.switched.Load())
				}
			})
		}
	}
}

// TestAClosingWaitsForAnOpeningInHand kills one that opens right after it has enabled
// the key, with a closing on its heels: the closing is what holds.
func TestAClosingWaitsForAnOpeningInHand(t *testing.T) {
	ctx, b := context.Background(), setup(t)
	o := b.provisioned(t)
	b.decided(t, o.id, tenants.GateClosed)
	require.NoError(t, b.p.ApplyGate(ctx, o.id))

	alive, kill := context.WithCancel(ctx)
	defer kill()
	var closing sync.WaitGroup
	var closed atomic.Bool
	c, keys := b.config, &heldKeys{KMS: b.keys}
	keys.enabled = func() {
		b.decided(t, o.id, tenants.GateClosed)
		closing.Go(func() {
			if err := b.p.ApplyGate(ctx, o.id); err != nil {
				t.Error(err)
			}
			closed.Store(true)
		})
		require.Eventually(t, func() bool {
			return closed.Load() || b.cellText(t, `SELECT count(*)::text FROM pg_stat_activity
				WHERE datname = current_database() AND wait_event_type = 'Lock' AND query LIKE '%cell.tenant_fence%'`) != "0"
		}, 20*time.Second, 5*time.Millisecond)
		require.False(t, closed.Load(), "the closing was over before the key was enabled for good")
		kill()
	}
	c.Keys = keys
	p, err := provisioning.New(c)
	require.NoError(t, err)
	b.decided(t, o.id, tenants.GateOpen)
	require.Error(t, p.ApplyGate(alive, o.id))
	closing.Wait()
	b.requireGate(t, o.id, false)

	// The twin: nobody closes.
	b.decided(t, o.id, tenants.GateOpen)
	require.NoError(t, b.p.ApplyGate(ctx, o.id))
	b.requireGate(t, o.id, true)
}

// TestAnOpeningThatHangsHoldsAClosingOnlyForAWhile stops one that opens in the middle,
// with its connections alive: the server ends its hold of the fence.
func TestAnOpeningThatHangsHoldsAClosingOnlyForAWhile(t *testing.T) {
	ctx, b := context.Background(), setup(t)
	o := b.provisioned(t)
	b.decided(t, o.id, tenants.GateClosed)
	require.NoError(t, b.p.ApplyGate(ctx, o.id))
	alive, kill := context.WithCancel(ctx)
	defer kill()
	c, keys := b.config, &heldKeys{KMS: b.keys}
	keys.enabled = func() {
		b.decided(t, o.id, tenants.GateClosed)
		closed := make(chan error, 1)
		go func() { closed <- b.p.ApplyGate(ctx, o.id) }()
		select {
		case err := <-closed:
			require.NoError(t, err)
		case <-time.After(20 * time.Second):
			t.Error("the closing waits for as long as the opening hangs")
		}
		kill()
	}
	c.Keys = keys
	p, err := provisioning.New(c)
	require.NoError(t, err)
	b.decided(t, o.id, tenants.GateOpen)
	require.Error(t, p.ApplyGate(alive, o.id))
	b.requireGate(t, o.id, false)
}

// TestAKeyIsDisabledWhileTheCellIsAway has the key refuse although the role cannot be
// reached; nothing is taken for applied.
func TestAKeyIsDisabledWhileTheCellIsAway(t *testing.T) {
	ctx, b := context.Background(), setup(t)
	o := b.provisioned(t)
	c := b.config
	c.Cell = open(t, b.cell.DSN("cell_owner"), pg.Options{})
	p, err := provisioning.New(c)
	require.NoError(t, err)
	c.Cell.Close()
	const applied = `SELECT (gate_applied = gate_version)::text FROM organization WHERE id = $1`
	state := func() kms.State {
		s, err := b.keys.Status(ctx, kms.KeyName(o.id))
		require.NoError(t, err)
		return s.State
	}
	b.decided(t, o.id, tenants.GateClosed)
	require.NoError(t, b.p.ApplyGate(ctx, o.id))
	b.decided(t, o.id, tenants.GateOpen)
	require.Error(t, p.ApplyGate(ctx, o.id))
	require.Equal(t, kms.StateDisabled, state(), "the twin: nothing is opened without the cell")
	require.NoError(t, b.p.ApplyGate(ctx, o.id))

	b.decided(t, o.id, tenants.GateClosed)
	require.Error(t, p.ApplyGate(ctx, o.id))
	require.Equal(t, kms.StateDisabled, state())
	require.Equal(t, "false", b.text(t, applied, o.id))
	require.NoError(t, b.p.ApplyGate(ctx, o.id))
	require.Equal(t, "true", b.text(t, applied, o.id))
	b.requireGate(t, o.id, false)
}
