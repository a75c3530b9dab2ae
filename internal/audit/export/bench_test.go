package export_test

import (
	"io"
	"testing"
	"time"

	"github.com/caresphere/caresphere/internal/audit/audittest"
	"github.com/caresphere/caresphere/internal/audit/export"
)

// BenchmarkExport writes a whole log of 50,000 entries.
func BenchmarkExport(b *testing.B) {
	f := setup(b)
	audittest.Exec(b, f.super, `INSERT INTO `+f.Log().Table("audit_entry")+` (id, actor_kind, actor_id, role, session_id, facility_id, action, record_type, record_id, outcome, ip, device, request_id, detail)
		SELECT gen_random_uuid(), 'member', gen_random_uuid(), 'nurse', gen_random_uuid(), gen_random_uuid(), 'client.read', 'client', gen_random_uuid()::text, 'ok',
		'192.0.2.7', 'Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36', gen_random_uuid()::text, '{}' FROM generate_series(1, 50000)`)
	r := f.Reader(b)
	o := export.Options{Log: f.Log(), Known: f.known(), Signer: f.signer, Ask: f.seal, Wait: time.Minute}
	for _, format := range formats {
		b.Run(string(format), func(b *testing.B) {
			o.Format = format
			for b.Loop() {
				if err := export.Write(ctx, r, io.Discard, o); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(50_000*float64(b.N)/b.Elapsed().Seconds(), "entries/s")
		})
	}
}
