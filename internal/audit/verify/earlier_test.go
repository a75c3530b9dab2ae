package verify

import (
	"bytes"
	"testing"
)

// FuzzReadEarlier: nothing that nobody signed is taken for a checkpoint.
func FuzzReadEarlier(f *testing.F) {
	var keys Keys
	var signed []Earlier
	for _, name := range samples {
		file, k := sample(f, name)
		keys = k
		e, err := ReadEarlier(bytes.NewReader(file), keys)
		if err != nil {
			f.Fatal(err)
		}
		signed = append(signed, e)
		f.Add(file[:min(len(file), 4096)])
	}
	f.Add([]byte("caresphere.dev/audit/x\n1\nAAAA\n\n— caresphere-audit AAAA\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		e, err := ReadEarlier(bytes.NewReader(b), keys)
		if err != nil {
			return
		}
		for _, s := range signed {
			if e == s {
				return
			}
		}
		t.Fatalf("a checkpoint that nobody signed: %+v", e)
	})
}

// BenchmarkBare is what any verifier must do with the same bytes: decode each
// line's JSON and hash it. It stands beside BenchmarkFile.
func BenchmarkBare(b *testing.B) {
	file, _ := sample(b, "audit.jsonl")
	var entries int64
	b.SetBytes(int64(len(file)))
	for b.Loop() {
		entries += bare(b, file)
	}
	b.ReportMetric(float64(entries)/b.Elapsed().Seconds(), "entries/s")
}
