package verify

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"strconv"
	"strings"

	"github.com/caresphere/caresphere/internal/audit/record"
)

// chain follows the running hash from line to line. A line follows the one before
// it by what that one states or by what that one should have stated, so that one
// changed line is one finding.
type chain struct {
	stated, computed digest
	// unknown: the line before could not be read, so anything may follow.
	unknown bool
}

func (c *chain) begin(format string) {
	c.stated = sha256.Sum256([]byte(record.ExportFormat + "\n" + format + "\n"))
	c.computed = c.stated
}

// follows tells whether the line's running hash fits, and goes on from it.
func (c *chain) follows(l line) bool {
	stated, wellFormed := parseDigest(l.chain)
	one := link(c.stated, l.covered)
	ok := wellFormed && stated == one
	computed := one
	if !ok && c.computed != c.stated {
		if other := link(c.computed, l.covered); wellFormed && stated == other {
			ok, computed = true, other
		}
	}
	ok = ok || c.unknown && wellFormed
	c.unknown = false
	if !wellFormed {
		stated = computed
	}
	c.stated, c.computed = stated, computed
	return ok
}

func link(before digest, covered []byte) digest {
	h := sha256.New()
	h.Write(before[:])
	h.Write(covered)
	var d digest
	h.Sum(d[:0])
	return d
}

// checkpoint is a parsed tree head (C2SP tlog-checkpoint).
type checkpoint struct {
	origin string
	size   int64
	root   digest
}

func parseCheckpoint(text string) (checkpoint, bool) {
	lines := strings.Split(text, "\n")
	if len(lines) != 4 || lines[3] != "" {
		return checkpoint{}, false
	}
	size, err := strconv.ParseInt(lines[1], 10, 64)
	if err != nil || size <= 0 || strconv.FormatInt(size, 10) != lines[1] {
		return checkpoint{}, false
	}
	raw, err := base64.StdEncoding.Strict().DecodeString(lines[2])
	if err != nil {
		return checkpoint{}, false
	}
	root, ok := parseDigest(hex.EncodeToString(raw))
	return checkpoint{origin: lines[0], size: size, root: root}, ok
}
