package provisioning_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/caresphere/caresphere/controlplane/provisioning"
	"github.com/caresphere/caresphere/tenants"
)

// The agreement is in force by the clock that says when it was executed, whatever the
// provisioner's own says.
func TestAnAgreementIsInForceByTheDatabasesClock(t *testing.T) {
	ctx, b := context.Background(), setup(t)
	// The steps end at the storage, where a file stands in the way.
	require.NoError(t, os.WriteFile(filepath.Join(b.objects, "t"), nil, 0o600))
	for name, off := range map[string]time.Duration{"slow": -time.Hour, "fast": 2 * 365 * 24 * time.Hour} {
		t.Run(name, func(t *testing.T) {
			c := b.config
			c.Now = func() time.Time { return time.Now().Add(off) }
			p, err := provisioning.New(c)
			require.NoError(t, err)
			org, _ := b.organization(t)
			err = p.Provision(ctx, org, false)
			var f *provisioning.Failure
			require.True(t, errors.As(err, &f), "%v", err)
			require.False(t, f.Final, "%v", err)
			require.Equal(t, "done", b.text(t, `SELECT state FROM provisioning_step WHERE organization_id = $1 AND step = 'key'`, org))

			// The twin: one that is over, by the database's clock.
			over, _ := b.organization(t)
			b.exec(t, `ALTER TABLE baa DISABLE TRIGGER USER`)
			b.exec(t, `UPDATE baa SET executed_at = now() - interval '2 years', expires_at = now() - interval '1 second' WHERE organization_id = $1`, over)
			b.exec(t, `ALTER TABLE baa ENABLE TRIGGER USER`)
			require.ErrorContains(t, p.Provision(ctx, over, false), "no business associate agreement in force")
			require.Equal(t, "0", b.cellText(t, `SELECT count(*)::text FROM pg_namespace WHERE nspname = $1`, tenants.SchemaName(over)))
		})
	}
}

// One that is countersigned while the lack of one is being recorded is not lost.
func TestAnAgreementThatComesMeanwhileIsNotLost(t *testing.T) {
	ctx, b := context.Background(), setup(t)
	for _, countersigned := range []bool{true, false} {
		org, _ := b.organization(t)
		b.exec(t, `UPDATE baa SET state = 'terminated', ended_at = now(), ended_reason = 'test' WHERE organization_id = $1`, org)
		// Whoever countersigns has the organization's row.
		tx, err := b.admin.Begin(ctx)
		require.NoError(t, err)
		_, err = tx.Exec(ctx, `SELECT FROM organization WHERE id = $1 FOR NO KEY UPDATE`, org)
		require.NoError(t, err)
		ended := make(chan error, 1)
		go func() { ended <- b.p.Provision(ctx, org, true) }()
		require.Eventually(t, func() bool {
			return b.text(t, `SELECT count(*)::text FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'`) == "1"
		}, 20*time.Second, 5*time.Millisecond)
		if countersigned {
			b.agreement(t, org)
		}
		require.NoError(t, tx.Commit(ctx))
		var f *provisioning.Failure
		require.ErrorAs(t, <-ended, &f)
		require.Equal(t, !countersigned, f.Final)
		if !countersigned {
			require.Equal(t, "provisioning_failed", b.text(t, `SELECT state FROM organization WHERE id = $1`, org))
			continue
		}
		require.Equal(t, "provisioning", b.text(t, `SELECT state FROM organization WHERE id = $1`, org))
		require.NoError(t, b.p.Provision(ctx, org, true))
		require.Equal(t, "live", b.text(t, `SELECT state FROM organization WHERE id = $1`, org))
	}
}
