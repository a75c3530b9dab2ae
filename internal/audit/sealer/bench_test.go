package sealer

import (
	"crypto/sha256"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/caresphere/caresphere/internal/audit"
	"github.com/caresphere/caresphere/internal/audit/audittest"
	"github.com/caresphere/caresphere/internal/audit/tree"
)

const benchEntries = 100_000

// fill writes many entries at once, as no application can.
func fill(b *testing.B, c *pgx.Conn, l audit.Log) {
	b.Helper()
	audittest.Exec(b, c, `INSERT INTO `+l.Table("audit_entry")+` (id, actor_kind, actor_id, role, session_id, facility_id, action, record_type, record_id, outcome, ip, device, request_id, detail)
		SELECT gen_random_uuid(), 'member', gen_random_uuid(), 'nurse', gen_random_uuid(), gen_random_uuid(), 'client.read', 'client', gen_random_uuid()::text, 'ok',
		'192.0.2.7', 'Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36', gen_random_uuid()::text, '{}' FROM generate_series(1, $1::int)`, benchEntries)
}

// BenchmarkSeal seals 100,000 entries of one log; BenchmarkSealBare does what any
// sealer must with them: read each, hash it, and store a row of 32 bytes for it.
func BenchmarkSeal(b *testing.B) {
	for b.Loop() {
		b.StopTimer()
		n := audittest.NewTenant(b, audittest.Cell(b))
		key, _ := audittest.Key(b, "caresphere-audit")
		signer, verifier, _, err := tree.ParseSigner(key)
		require.NoError(b, err)
		l := Log{Log: n.Log(), Pool: audittest.Pool(b, "cell_sealer", n.Database), Signer: signer, Verifier: verifier,
			Anchor: PostgresAnchor{Pool: audittest.Pool(b, "provisioner", audittest.Control(b))}}
		fill(b, audittest.Connect(b, audittest.Super, n.Database), n.Log())
		b.StartTimer()
		r, err := l.Seal(ctx)
		require.NoError(b, err)
		require.Equal(b, benchEntries, r.Sealed)
	}
	b.ReportMetric(benchEntries*float64(b.N)/b.Elapsed().Seconds(), "entries/s")
}

// BenchmarkSealBare: see BenchmarkSeal.
func BenchmarkSealBare(b *testing.B) {
	for b.Loop() {
		b.StopTimer()
		n := audittest.NewTenant(b, audittest.Cell(b))
		c := audittest.Connect(b, audittest.Super, n.Database)
		fill(b, c, n.Log())
		audittest.Exec(b, c, "CREATE TABLE public.bare (at bigint PRIMARY KEY, seq bigint UNIQUE, hash bytea)")
		b.StartTimer()
		rows, err := c.Query(ctx, "SELECT e.seq, e.*::text FROM "+n.Log().Table("audit_entry")+" e ORDER BY e.seq")
		require.NoError(b, err)
		var stored [][]any
		var seq int64
		var text []byte
		_, err = pgx.ForEachRow(rows, []any{&seq, &text}, func() error {
			sum := sha256.Sum256(text)
			stored = append(stored, []any{int64(len(stored)), seq, sum[:]})
			return nil
		})
		require.NoError(b, err)
		_, err = c.CopyFrom(ctx, pgx.Identifier{"public", "bare"}, []string{"at", "seq", "hash"}, pgx.CopyFromRows(stored))
		require.NoError(b, err)
	}
	b.ReportMetric(benchEntries*float64(b.N)/b.Elapsed().Seconds(), "entries/s")
}
