package export_test

import (
	"bytes"
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"
	"golang.org/x/mod/sumdb/note"

	"github.com/caresphere/caresphere/internal/audit"
	"github.com/caresphere/caresphere/internal/audit/audittest"
	"github.com/caresphere/caresphere/internal/audit/export"
	"github.com/caresphere/caresphere/internal/audit/sealer"
	"github.com/caresphere/caresphere/internal/audit/tree"
	"github.com/caresphere/caresphere/internal/audit/verify"
	"github.com/caresphere/caresphere/tenants"
)

var ctx = context.Background()

// fixture is a tenant whose trail is sealed whenever an export asks for it.
type fixture struct {
	*audittest.Tenant
	sealer sealer.Log
	super  *pgx.Conn
	signer note.Signer
	keys   verify.Keys
	nurse  tenants.Actor
}

func setup(t testing.TB) *fixture {
	t.Helper()
	n := audittest.NewTenant(t, audittest.Cell(t))
	private, public := audittest.Key(t, "caresphere-audit")
	exportPrivate, exportPublic := audittest.Key(t, "caresphere-export")
	signer, verifier, _, err := tree.ParseSigner(private)
	require.NoError(t, err)
	exportSigner, err := note.NewSigner(exportPrivate)
	require.NoError(t, err)
	keys, err := verify.ParseKeys("# keys\n" + public + "\n\n" + exportPublic + "\n")
	require.NoError(t, err)
	return &fixture{Tenant: n, signer: exportSigner, keys: keys, nurse: n.Member(tenants.RoleNurse),
		super: audittest.Connect(t, "super", n.Database),
		sealer: sealer.Log{Log: n.Log(), Pool: audittest.Pool(t, "cell_sealer", n.Database), Signer: signer, Verifier: verifier,
			Anchor: sealer.PostgresAnchor{Pool: audittest.Pool(t, "provisioner", audittest.Control(t))}}}
}

// write records n entries, some of them with what an encoding could stumble over.
func (f *fixture) write(t testing.TB, n int) {
	t.Helper()
	c := f.Connect(t)
	defer c.Close(ctx)
	for i := range n {
		a, ev := f.nurse, audit.Event{Action: "client.read", RecordType: "client", RecordID: tenants.NewID().String(), FacilityID: tenants.NewID()}
		switch i % 5 {
		case 1:
			a = f.Member(tenants.RoleOwner)
			a.Device = `=HYPERLINK("http://example.com";"x")`
		case 2:
			ev.Action, ev.Outcome = "note.read", audit.OutcomeDenied
			a.Device = "Ünïcode \u2028 \"quoted\" \\ back,comma <b>&amp;"
		case 3:
			ev.Detail = map[string]string{"to_facility": tenants.NewID().String(), "count": fmt.Sprint(i), "é": "\""}
		}
		f.Record(t, c, a, ev)
	}
}

func (f *fixture) seal(ctx context.Context) error {
	_, err := f.sealer.Seal(ctx)
	return err
}

// known are the sealer's keys.
func (f *fixture) known() note.Verifiers { return note.VerifierList(f.sealer.Verifier) }

func (f *fixture) export(t testing.TB, format export.Format, filter audit.Filter) []byte {
	t.Helper()
	out, err := f.tryExport(t, format, filter)
	require.NoError(t, err)
	return out
}

func (f *fixture) tryExport(t testing.TB, format export.Format, filter audit.Filter) ([]byte, error) {
	t.Helper()
	var out bytes.Buffer
	err := export.Write(ctx, f.Reader(t), &out, export.Options{Log: f.Log(), Filter: filter, Format: format, Known: f.known(), Signer: f.signer,
		Ask: f.seal, Wait: 20 * time.Second})
	return out.Bytes(), err
}

func (f *fixture) verify(t testing.TB, file []byte, o ...verify.Option) verify.Report {
	t.Helper()
	r, err := verify.File(bytes.NewReader(file), f.keys, o...)
	require.NoError(t, err)
	require.Equal(t, r.Found == 0, r.OK)
	return r
}

var formats = []export.Format{export.JSONLines, export.CSV}
