package e2e_test

import (
	"fmt"
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/caresphere/caresphere/internal/demo"
	"github.com/caresphere/caresphere/internal/devstack"
	"github.com/caresphere/caresphere/internal/testkit/prove"
	"github.com/caresphere/caresphere/tenants"
)

// converged is how long after an outage an organization that was under way is live.
const converged = 60 * time.Second

// underWay signs an organization up, has its agreement executed, and holds its provisioning
// in the middle until goOn is called.
func (s *besieged) underWay(t *testing.T) (l *demo.Live, goOn func()) {
	t.Helper()
	l, err := demo.SignUp(within(t, time.Minute), s.options(), "under-"+word())
	require.NoError(t, err)
	// Whoever wants to write here waits; who reads does not.
	ctx, db := within(t, 2*time.Minute), s.database(t, devstack.CellDatabase)
	for _, sql := range []string{"BEGIN", "LOCK TABLE cell.tenant_credential IN SHARE ROW EXCLUSIVE MODE"} {
		_, err := db.Exec(ctx, sql)
		require.NoError(t, err)
	}
	require.NoError(t, l.Agree(within(t, time.Minute), s.operator(t)))
	until(t, 30*time.Second, "the provisioning of "+l.Slug+" is under way", func() (bool, string) {
		p, err := l.Owner.Provisioning(within(t, 10*time.Second))
		done := 0
		for _, step := range p.Steps {
			done += count(step.State == "done")
		}
		return err == nil && done > 0 && done < len(p.Steps), fmt.Sprintf("%d steps: %v", done, err)
	})
	return l, func() {
		t.Helper()
		_, err := db.Exec(ctx, "ROLLBACK")
		require.NoError(t, err)
	}
}

// once says what of an organization is not as one provisioning leaves it.
func (s *besieged) once(t *testing.T, l *demo.Live) error {
	t.Helper()
	id, err := tenants.ParseID(l.ID)
	require.NoError(t, err)
	p, err := l.Owner.Provisioning(within(t, noLater))
	if err != nil {
		return fmt.Errorf("asking the control plane: %w", err)
	}
	for _, step := range p.Steps {
		if p.State != string(tenants.StateLive) || step.State != "done" {
			return fmt.Errorf("it is %s, its step %s %s: %s", p.State, step.Step, step.State, step.Reason)
		}
	}
	if err := l.Owner.Tenant(l.Slug).Do(within(t, noLater), http.MethodGet, "/session", nil, nil); err != nil {
		return fmt.Errorf("it is not served: %w", err)
	}
	var got string
	if err := s.database(t, devstack.ControlDatabase).QueryRow(within(t, 10*time.Second), `SELECT concat_ws(' ', o.gate_mode, (o.gate_applied = o.gate_version)::text,
		(SELECT count(*) FROM audit_entry a WHERE a.action = 'organization.live' AND a.organization_id = o.id),
		(SELECT count(*) FROM subscription s WHERE s.organization_id = o.id AND s.status <> 'pending'))
		FROM organization o WHERE o.id = $1`, id).Scan(&got); err != nil {
		return fmt.Errorf("asking the control database: %w", err)
	}
	var members string
	if err := s.database(t, devstack.CellDatabase).QueryRow(within(t, 10*time.Second), `SELECT concat_ws(' ', (SELECT count(*) FROM `+tenants.SchemaName(id)+`.member),
		(SELECT count(*) FROM `+tenants.SchemaName(id)+`.probe))`).Scan(&members); err != nil {
		return fmt.Errorf("asking the cell: %w", err)
	}
	if got += " " + members; got != "open true 1 1 1 0" {
		return fmt.Errorf("gate, gate applied, entries, subscriptions, members, probes left: %s", got)
	}
	return nil
}

// arrived states whether an organization that was under way is live in time, once.
func (s *besieged) arrived(t *testing.T, l *demo.Live) {
	t.Helper()
	var why error
	ok := polled(converged, func() bool { why = s.once(t, l); return why == nil })
	if !ok {
		t.Errorf("%s: %v", l.Slug, why)
	}
	prove.State(t, prove.OutageUnderWay, 1, count(!ok))
}

// accounted takes a census after all outages. The twins are a schema of nobody, and an
// organization that nobody provisions.
func (s *besieged) accounted(t *testing.T) {
	t.Helper()
	r := s.census(t, "15m")
	things := 0
	for _, n := range r.Things {
		things += n
	}
	for _, f := range r.Findings {
		t.Errorf("%s %s of %s: %s", f.Kind, f.Name, f.Organization, f.Problem)
	}
	prove.State(t, prove.OutageCensus, things, len(r.Findings))
	db, stray := s.database(t, devstack.CellDatabase), tenants.SchemaName(tenants.NewID())
	_, err := db.Exec(within(t, 10*time.Second), "CREATE SCHEMA "+stray)
	require.NoError(t, err)
	prove.Plant(t, prove.OutageCensus, 1, len(s.census(t, "15m").Findings)-len(r.Findings))
	_, err = db.Exec(within(t, 10*time.Second), "DROP SCHEMA "+stray)
	require.NoError(t, err)

	waiting, err := demo.SignUp(within(t, time.Minute), s.options(), "waiting-"+word())
	require.NoError(t, err)
	prove.Plant(t, prove.OutageUnderWay, 1, count(s.once(t, waiting) != nil))
}
