package e2e_test

import (
	"context"
	"errors"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/caresphere/caresphere/internal/audit"
	"github.com/caresphere/caresphere/internal/client"
	"github.com/caresphere/caresphere/internal/demo"
	"github.com/caresphere/caresphere/internal/devstack"
	"github.com/caresphere/caresphere/internal/tenantdb"
	"github.com/caresphere/caresphere/internal/testkit/prove"
	"github.com/caresphere/caresphere/tenants"
)

// hintChannels are those of a cell's database; any login may listen to them and send.
var hintChannels = []string{tenantdb.GateChannel, tenantdb.AuthzChannel, audit.Channel}

// tagsOf are what stands for the tenant on each of them.
func tagsOf(id tenants.ID) map[string]string {
	return map[string]string{
		tenantdb.GateChannel:  tenantdb.HintTag(tenantdb.GateChannel, id),
		tenantdb.AuthzChannel: tenantdb.HintTag(tenantdb.AuthzChannel, id),
		audit.Channel:         audit.TenantLog(id, tenants.SchemaName(id)).Tag(),
	}
}

// heard are the payloads of each channel.
type heard map[string][]string

// naming are the payloads in which one of the names stands, in any case.
func (h heard) naming(names ...string) (all []string) {
	for channel, payloads := range h {
		for _, p := range payloads {
			for _, n := range names {
				if strings.Contains(strings.ToLower(p), strings.ToLower(n)) {
					all = append(all, channel+": "+p)
				}
			}
		}
	}
	return all
}

// listen hears until done says so, or for the time given.
func (h heard) listen(t *testing.T, conn *pgx.Conn, limit time.Duration, done func() bool) {
	t.Helper()
	ctx := within(t, limit)
	for !done() {
		n, err := conn.WaitForNotification(ctx)
		if errors.Is(err, context.DeadlineExceeded) {
			require.FailNow(t, "not everything was heard", "%v", h)
		}
		require.NoError(t, err)
		h[n.Channel] = append(h[n.Channel], n.Payload)
	}
}

// TestHintsNameNobodyAndDecideNothing is about what no right can be taken away from: a
// tenant's login that listens to the cell's channels, and sends on them.
func TestHintsNameNobodyAndDecideNothing(t *testing.T) {
	t.Parallel()
	w := here(t)
	victim, attacker := w.tenant(t, "heard"), w.tenant(t, "listener")
	c := w.credential(t, victim)
	conn, err := w.loggedIn(t, w.credential(t, attacker))
	require.NoError(t, err)
	t.Cleanup(func() { _ = conn.Close(context.Background()) })
	for _, channel := range hintChannels {
		_, err := conn.Exec(within(t, 10*time.Second), "LISTEN "+channel)
		require.NoError(t, err)
	}

	// Something of the victim's on each channel: entries, a facility, a gate that moves.
	r := admit(t, victim, "Heard")
	_, err = victim.Owner.Tenant(victim.Slug).CreateFacility(within(t, time.Minute), client.Facility{Name: "Heard " + word()}, word())
	require.NoError(t, err)
	w.move(t, victim, "suspend")
	w.closed(t, victim, c)
	w.move(t, victim, "resume")
	w.served(t, victim)
	tags, h := tagsOf(c.id), heard{}
	h.listen(t, conn, 20*time.Second, func() bool {
		for _, channel := range hintChannels {
			if !slices.Contains(h[channel], tags[channel]) {
				return false
			}
		}
		return true
	})
	names := []string{victim.ID, c.id.Hex(), victim.Slug, victim.Name, tenants.SchemaName(c.id), tenants.RoleName(c.id)}
	tried, found := 0, h.naming(names...)
	require.Empty(t, found)
	bare := regexp.MustCompile("^[0-9a-f]{32}$")
	for channel, payloads := range h {
		tried += len(payloads)
		for _, p := range payloads {
			require.Regexp(t, bare, p, "%s tells more than a tag", channel)
		}
	}
	require.Len(t, map[string]bool{tags[tenantdb.GateChannel]: true, tags[tenantdb.AuthzChannel]: true, tags[audit.Channel]: true}, 3,
		"what is heard on one channel says nothing on another")

	tried += w.spoofed(t, conn, victim, c, r)
	prove.State(t, prove.Hints, tried, len(found))

	// A hint that does name its tenant, as nothing of ours sends it.
	_, err = w.database(t, devstack.CellDatabase).Exec(within(t, 10*time.Second), "SELECT pg_notify($1, $2)", audit.Channel, tenants.SchemaName(c.id))
	require.NoError(t, err)
	h.listen(t, conn, 10*time.Second, func() bool { return len(h.naming(names...)) > 0 })
	prove.Plant(t, prove.Hints, 1, min(1, len(h.naming(names...))))
}

// spoofed sends the victim's own tags as another tenant, again and again: the workers
// look, find the gate as it was, and go on over the connections that they have. What a
// decision does is its twin.
func (w *world) spoofed(t *testing.T, conn *pgx.Conn, victim *demo.Live, c credential, r record) (sent int) {
	t.Helper()
	send := func() {
		for channel, tag := range tagsOf(c.id) {
			sent++
			_, err := conn.Exec(within(t, 10*time.Second), "SELECT pg_notify($1, $2)", channel, tag)
			require.NoError(t, err, "PostgreSQL has no right to take away here")
		}
	}
	readable(t, victim, r)
	held, was := w.backends(t, c), w.gate(t, c)
	require.NotEmpty(t, held, "workers hold connections of a tenant that they serve")
	left := func() int {
		now := w.backends(t, c)
		return len(slices.DeleteFunc(slices.Clone(held), func(pid int) bool { return !slices.Contains(now, pid) }))
	}
	for range 50 {
		send()
		readable(t, victim, r)
	}
	require.NotZero(t, left(), "a hint that nothing follows from costs no connection")
	w.opened(t, victim, c)
	require.Equal(t, was, w.gate(t, c))

	w.move(t, victim, "suspend")
	w.closed(t, victim, c)
	until(t, 10*time.Second, "the connections end with a decision", func() (bool, string) { return left() == 0, "some are left" })
	shut := w.gate(t, c)
	require.NotEqual(t, was, shut, "a decision shows in what is compared")
	send()
	w.closed(t, victim, c)
	require.Equal(t, shut, w.gate(t, c))
	w.move(t, victim, "resume")
	w.served(t, victim)
	a := w.wire(t, w.Origin()).as(victim.Nurse.Client).do(t, http.MethodGet, "/t/"+victim.Slug+"/v1/notes/"+r.note.ID, nil)
	require.Equal(t, http.StatusOK, a.status, a.body)
	return sent
}

// backends are the server's processes for the tenant's role.
func (w *world) backends(t *testing.T, c credential) []int {
	t.Helper()
	rows, err := w.database(t, devstack.CellDatabase).Query(within(t, 10*time.Second), "SELECT pid FROM pg_stat_activity WHERE usename = $1", tenants.RoleName(c.id))
	require.NoError(t, err)
	pids, err := pgx.CollectRows(rows, pgx.RowTo[int])
	require.NoError(t, err)
	return pids
}

// gate is what is decided about the tenant's gate and what holds in the cell.
func (w *world) gate(t *testing.T, c credential) (all [2]string) {
	t.Helper()
	ctx := within(t, 10*time.Second)
	require.NoError(t, w.database(t, devstack.ControlDatabase).QueryRow(ctx,
		"SELECT concat_ws(' ', state, gate_mode, gate_version) FROM organization WHERE id = $1", c.id.String()).Scan(&all[0]))
	require.NoError(t, w.database(t, devstack.CellDatabase).QueryRow(ctx,
		"SELECT concat_ws(' ', f.gate_version, f.gate_open, r.rolcanlogin) FROM cell.tenant_fence f, pg_roles r WHERE f.tenant_id = $1 AND r.rolname = $2",
		c.id.String(), tenants.RoleName(c.id)).Scan(&all[1]))
	return all
}
