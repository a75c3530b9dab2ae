package verify

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"testing"

	"github.com/caresphere/caresphere/internal/audit/record"
)

// bare decodes each line with encoding/json, its entry too, and hashes both once.
func bare(b *testing.B, file []byte) (entries int64) {
	b.Helper()
	var total byte
	for l := range bytes.Lines(file) {
		var line struct {
			Kind    string          `json:"kind"`
			Leaf    int64           `json:"leaf"`
			Hash    string          `json:"hash"`
			Content json.RawMessage `json:"content"`
			Chain   string          `json:"chain"`
		}
		if err := json.Unmarshal(l, &line); err != nil {
			b.Fatal(err)
		}
		sum := sha256.Sum256(l)
		total ^= sum[0]
		if line.Kind != record.LineEntry {
			continue
		}
		var e map[string]any
		if err := json.Unmarshal(line.Content, &e); err != nil {
			b.Fatal(err)
		}
		sum = sha256.Sum256(line.Content)
		total ^= sum[0]
		entries++
	}
	_ = total
	return entries
}
