package provisioning_test

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/caresphere/caresphere/controlplane/provisioning"
	"github.com/caresphere/caresphere/internal/kms"
	"github.com/caresphere/caresphere/internal/testkit"
	"github.com/caresphere/caresphere/internal/testkit/prove"
	"github.com/caresphere/caresphere/tenants"
)

// failure is one write that is made to fail.
type failure struct {
	where *testkit.Writes
	name  string
	how   testkit.FailAt
	at    int
}

// failures are the writes that were counted in the databases: all of them in the
// nightly run, in a usual one so many, drawn at random.
func failures(t *testing.T, databases map[string]*testkit.Writes, usual int) (all []failure) {
	t.Helper()
	for name, w := range databases {
		for _, how := range []testkit.FailAt{testkit.InStatement, testkit.AtCommit} {
			n := w.Seen(how)
			require.Positive(t, n, "%s %s", name, how)
			t.Logf("%s: %d writes (%s)", name, n, how)
			for at := 1; at <= n; at++ {
				all = append(all, failure{w, name, how, at})
			}
		}
	}
	return prove.Draw(t, all, usual)
}

// TestEachFailedWriteIsTakenUpAgain makes writes of provisioning fail, one at a time:
// rows and commands in both databases, in the statement and at the commit. The next
// try completes what is there, and leaves one of everything. A usual run draws some
// of them, the nightly one takes all.
func TestEachFailedWriteIsTakenUpAgain(t *testing.T) {
	t.Parallel()
	b := setup(t)
	databases := map[string]*testkit.Writes{"control": testkit.CountWrites(t, b.control, "public"), "cell": testkit.CountWrites(t, b.cell, "cell")}
	ctx := context.Background()

	// How many writes there are is counted, so that a new one is among them. Whatever
	// the organization's setup writes is not the provisioner's.
	org, _ := b.organization(t)
	for _, w := range databases {
		w.Begin()
	}
	require.NoError(t, b.p.Provision(ctx, org, false))
	all := failures(t, databases, 20)
	tried, wrong := 0, 0
	for _, f := range all {
		switch err := b.throughAFailedWrite(t, databases, f); {
		case errors.Is(err, errPassed):
			t.Logf("%s, write %d (%s): %v", f.name, f.at, f.how, err)
			continue
		case err != nil:
			wrong++
			t.Errorf("%s, write %d (%s): %v", f.name, f.at, f.how, err)
		}
		tried++
	}
	prove.State(t, prove.FailedWrites, tried, wrong)

	// The twin: what a step would leave that is not done again.
	org, _ = b.organization(t)
	require.NoError(t, b.p.Provision(ctx, org, false))
	require.NoError(t, b.oneOfEach(ctx, org))
	b.exec(t, `UPDATE organization SET placement_epoch = placement_epoch + 1 WHERE id = $1`, org)
	noticed := 0
	if b.oneOfEach(ctx, org) != nil {
		noticed++
	}
	prove.Plant(t, prove.FailedWrites, 1, noticed)
}

// errPassed: a run makes a write more or less than another, and this one did not come to it.
var errPassed = errors.New("it never came to this write")

// throughAFailedWrite provisions an organization with one failed write on the way, or
// returns errPassed.
func (b *bundle) throughAFailedWrite(t *testing.T, databases map[string]*testkit.Writes, f failure) error {
	ctx := context.Background()
	org, _ := b.organization(t)
	f.where.Arm(f.how, f.at)
	first := b.p.Provision(ctx, org, false)
	passed := f.where.Seen(f.how) < f.at
	// What is armed still would fail the next organization.
	for _, w := range databases {
		w.Begin()
	}
	if passed {
		return cmp.Or(first, b.oneOfEach(ctx, org), errPassed)
	}
	if err := b.honest(t, org, first); err != nil {
		return err
	}
	var known *provisioning.Failure
	if errors.As(first, &known) && strings.Contains(known.Reason, "planted") {
		return fmt.Errorf("the reason shows what the database said: %s", known.Reason)
	}
	return b.resumed(t, org)
}

// honest holds what a try of provisioning said of its end against what there is.
func (b *bundle) honest(t *testing.T, org tenants.ID, said error) error {
	state := b.text(t, `SELECT state FROM organization WHERE id = $1`, org)
	if entries := b.text(t, `SELECT count(*)::text FROM audit_entry WHERE action = 'organization.live' AND organization_id = $1`, org); (state == "live") != (entries == "1") {
		return fmt.Errorf("the organization is %s with %s entries that say it is live", state, entries)
	}
	if said == nil && state != "live" {
		return fmt.Errorf("provisioning says that it is done, and the organization is %s", state)
	}
	return nil
}

// resumed takes up what a try left, and says what is missing or there twice after it.
func (b *bundle) resumed(t *testing.T, org tenants.ID) error {
	ctx := context.Background()
	again := b.p.Provision(ctx, org, false)
	if errors.Is(again, provisioning.ErrBusy) {
		// A lease that could not be given back: what its life would do.
		b.exec(t, `UPDATE provisioning_lease SET until = now() - interval '1 second' WHERE organization_id = $1`, org)
		again = b.p.Provision(ctx, org, false)
	}
	if again != nil {
		return fmt.Errorf("the next try: %w", again)
	}
	// What the gate's own job does, when the last of its writes was the one that failed.
	if err := b.p.ApplyGate(ctx, org); err != nil {
		return fmt.Errorf("applying the gate: %w", err)
	}
	return b.oneOfEach(ctx, org)
}

// oneOfEach says what of a live organization is missing or there twice.
func (b *bundle) oneOfEach(ctx context.Context, org tenants.ID) error {
	var wrong []error
	want := func(in string, want string, sql string, args ...any) {
		pool := b.admin
		if in == "cell" {
			pool = b.cellAdmin
		}
		var got string
		if err := pool.QueryRow(ctx, sql, args...).Scan(&got); err != nil {
			wrong = append(wrong, fmt.Errorf("%s: %w", sql, err))
		} else if got != want {
			wrong = append(wrong, fmt.Errorf("%s: %s instead of %s", sql, got, want))
		}
	}
	want("control", "live open true 1", `SELECT concat_ws(' ', state, gate_mode, (gate_applied = gate_version)::text, placement_epoch) FROM organization WHERE id = $1`, org)
	want("control", "1", `SELECT count(*)::text FROM audit_entry WHERE action = 'organization.live' AND organization_id = $1`, org)
	want("control", "", `SELECT coalesce(string_agg(step || ' ' || state, ','), '') FROM provisioning_step WHERE organization_id = $1 AND state <> 'done'`, org)
	want("control", fmt.Sprint(len(provisioning.Steps())), `SELECT count(*)::text FROM provisioning_step WHERE organization_id = $1`, org)
	want("cell", "1", `SELECT count(*)::text FROM pg_namespace WHERE nspname = $1`, tenants.SchemaName(org))
	want("cell", "true", `SELECT rolcanlogin::text FROM pg_roles WHERE rolname = $1`, tenants.RoleName(org))
	want("cell", "1", `SELECT count(*)::text FROM cell.tenant_credential WHERE tenant_id = $1`, org)
	want("cell", "1", `SELECT count(*)::text FROM cell.context_key WHERE role_name = $1`, tenants.RoleName(org))
	want("cell", "1", `SELECT count(*)::text FROM `+tenants.SchemaName(org)+`.member`)
	want("cell", "0", `SELECT count(*)::text FROM `+tenants.SchemaName(org)+`.probe`)
	if s, err := b.keys.Status(ctx, kms.KeyName(org)); err != nil || s.State != kms.StateAlive || s.Version != 1 {
		wrong = append(wrong, fmt.Errorf("the key is %s, version %d: %w", s.State, s.Version, err))
	}
	if conn, _, err := b.login(ctx, org); err != nil {
		wrong = append(wrong, fmt.Errorf("its role cannot log in: %w", err))
	} else {
		_ = conn.Close(ctx)
	}
	return errors.Join(slices.DeleteFunc(wrong, func(err error) bool { return err == nil })...)
}
