package provisioning_test

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/caresphere/caresphere/controlplane/placement"
	"github.com/caresphere/caresphere/controlplane/provisioning"
	"github.com/caresphere/caresphere/internal/pg"
	"github.com/caresphere/caresphere/internal/testkit"
	"github.com/caresphere/caresphere/internal/testkit/prove"
)

// wired has the bundle's provisioner reach both databases over wires.
func (b *bundle) wired(t *testing.T) map[string]*testkit.Wire {
	t.Helper()
	ctx := context.Background()
	control, cell := testkit.Wired(t, b.control), testkit.Wired(t, b.cell)
	c := b.config
	c.Control = open(t, control.DSN(b.control.DSN("provisioner")), pg.Options{ApplicationName: "provisioner"})
	c.CellDSN = cell.DSN(b.cell.DSN("cell_owner"))
	c.Cell = open(t, c.CellDSN, pg.Options{ApplicationName: "provisioner"})
	var err error
	c.Migrator, err = pg.OpenMigrator(ctx, c.CellDSN, provisioning.MigrationsAtOnce)
	require.NoError(t, err)
	t.Cleanup(c.Migrator.Close)
	inserter, err := provisioning.Inserter(c.Control, nil)
	require.NoError(t, err)
	c.Gatekeeper = placement.NewGates(inserter, nil)
	b.p, err = provisioning.New(c)
	require.NoError(t, err)
	return map[string]*testkit.Wire{"control": control, "cell": cell}
}

// TestEachBrokenConnectionIsTakenUpAgain breaks a connection at each message that
// provisioning sends to either database, one at a time: before the server has it, and before
// its answer is back, when nobody can know whether it was carried out. Commands for roles
// and for the database are among them, which no trigger sees, and so is each COMMIT. A
// usual run draws some, the nightly one takes all.
func TestEachBrokenConnectionIsTakenUpAgain(t *testing.T) {
	t.Parallel()
	b := setup(t)
	wires := b.wired(t)
	ctx := context.Background()
	org, _ := b.organization(t)
	require.NoError(t, b.p.Provision(ctx, org, false)) // connections are there from here on
	org, _ = b.organization(t)
	for _, w := range wires {
		w.Break("", 0)
	}
	require.NoError(t, b.p.Provision(ctx, org, false))
	type place struct {
		wire string
		how  testkit.Break
		at   int
	}
	var all []place
	for name, w := range wires {
		n := w.Seen()
		require.Greater(t, n, 20, name)
		t.Logf("%s: %d messages", name, n)
		for at := 1; at <= n; at++ {
			all = append(all, place{name, testkit.Lost, at}, place{name, testkit.Unanswered, at})
		}
	}
	tried, wrong := 0, 0
	for _, p := range prove.Draw(t, all, 20) {
		switch err := b.throughABreak(t, wires, p.wire, p.how, p.at); {
		case errors.Is(err, errPassed):
			t.Logf("%s, message %d (%s): %v", p.wire, p.at, p.how, err)
			continue
		case err != nil:
			wrong++
			t.Errorf("%s, message %d (%s): %v", p.wire, p.at, p.how, err)
		}
		tried++
	}
	prove.State(t, prove.BrokenConnections, tried, wrong)

	// The twin: what is broken in the middle and not taken up again is seen to lack something.
	org, _ = b.organization(t)
	wires["cell"].Break(testkit.Unanswered, 20)
	require.Error(t, b.p.Provision(ctx, org, false))
	noticed := 0
	if b.oneOfEach(ctx, org) != nil {
		noticed++
	}
	prove.Plant(t, prove.BrokenConnections, 1, noticed)
	wires["cell"].Break("", 0)
	require.NoError(t, b.resumed(t, org))
}

// throughABreak provisions an organization with one broken connection on the way, or
// returns errPassed.
func (b *bundle) throughABreak(t *testing.T, wires map[string]*testkit.Wire, wire string, how testkit.Break, at int) error {
	ctx := context.Background()
	org, _ := b.organization(t)
	wires[wire].Break(how, at)
	first := b.p.Provision(ctx, org, false)
	passed := wires[wire].Seen() < at
	for _, w := range wires {
		w.Break("", 0)
	}
	if passed {
		if first == nil {
			first = b.oneOfEach(ctx, org)
		}
		if first != nil {
			return first
		}
		return errPassed
	}
	if err := b.honest(t, org, first); err != nil {
		return err
	}
	if err := b.resumed(t, org); err != nil {
		return fmt.Errorf("after %w: %w", first, err)
	}
	return nil
}
