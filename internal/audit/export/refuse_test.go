package export_test

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/caresphere/caresphere/internal/audit"
	"github.com/caresphere/caresphere/internal/audit/export"
	"github.com/caresphere/caresphere/internal/testkit/prove"
	"github.com/caresphere/caresphere/tenants"
)

// refused demands that no export of the log is made, in either format.
func (f *fixture) refused(t testing.TB, what string) {
	t.Helper()
	for _, format := range formats {
		_, err := f.tryExport(t, format, audit.Filter{})
		require.True(t, tenants.IsKind(err, tenants.KindIntegrity), "%s: %v", what, err)
	}
	prove.State(t, prove.AuditForged, 1, 0)
}

// A row of another epoch would leave nothing to export, and that would verify.
func TestAnEpochThatNobodySignedIsNotExported(t *testing.T) {
	f := setup(t)
	f.write(t, 70)
	require.True(t, f.verify(t, f.export(t, export.CSV, audit.Filter{})).OK)
	epochs := f.Log().Table("audit_epoch")
	tamper(t, f, "INSERT INTO "+epochs+" VALUES (2, 0, 9000000000000000000, 'x')", "audit_epoch")
	f.refused(t, "planted")
	tamper(t, f, "DELETE FROM "+epochs+" WHERE epoch = 2", "audit_epoch")
	tamper(t, f, "UPDATE "+epochs+" SET min_seq = 1000", "audit_epoch")
	f.refused(t, "moved")
	tamper(t, f, "UPDATE "+epochs+" SET min_seq = 0", "audit_epoch")
	require.True(t, f.verify(t, f.export(t, export.CSV, audit.Filter{})).OK)

	// One that was openly begun is exported, if its key is known.
	_, err := f.sealer.StartEpoch(ctx, "moved to another server")
	require.NoError(t, err)
	f.write(t, 10)
	r := f.verify(t, f.export(t, export.JSONLines, audit.Filter{}))
	require.Empty(t, r.Problems)
	require.EqualValues(t, 80, r.Entries)
	require.Equal(t, 2, r.Epoch)
	f.sealer.Verifier = setup(t).sealer.Verifier
	f.refused(t, "by another key")
}

// A bound that lies ahead says of every new entry that it is sealed, and so of none
// that it is missing.
func TestABoundThatLiesAheadIsNotExported(t *testing.T) {
	f := setup(t)
	f.write(t, 3)
	require.True(t, f.verify(t, f.export(t, export.CSV, audit.Filter{})).OK)
	heads := f.Log().Table("audit_checkpoint")
	var to uint64
	require.NoError(t, f.super.QueryRow(ctx, "SELECT xid_to FROM "+heads).Scan(&to))
	f.write(t, 2)
	tamper(t, f, "UPDATE "+heads+" SET xid_to = '1000000000000000000'", "audit_checkpoint")
	f.refused(t, "ahead")
	tamper(t, f, fmt.Sprintf("UPDATE %s SET xid_to = '%d'", heads, to), "audit_checkpoint")
	r := f.verify(t, f.export(t, export.CSV, audit.Filter{}))
	require.Empty(t, r.Problems)
	require.EqualValues(t, 5, r.Entries)
}
