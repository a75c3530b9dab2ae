package verify

import "crypto/sha256"

type digest [sha256.Size]byte

// leafHash is RFC 6962's hash of a leaf.
func leafHash(content []byte) digest {
	h := sha256.New()
	h.Write([]byte{0})
	h.Write(content)
	var d digest
	h.Sum(d[:0])
	return d
}

// nodeHash is RFC 6962's hash of an inner node.
func nodeHash(left, right digest) digest {
	var b [1 + 2*sha256.Size]byte
	b[0] = 1
	copy(b[1:], left[:])
	copy(b[1+sha256.Size:], right[:])
	return sha256.Sum256(b[:])
}

// treeHash is the Merkle tree hash of at least one leaf (RFC 6962, 2.1).
func treeHash(leaves []digest) digest {
	if len(leaves) == 1 {
		return leaves[0]
	}
	split := 1
	for 2*split < len(leaves) {
		split *= 2
	}
	return nodeHash(treeHash(leaves[:split]), treeHash(leaves[split:]))
}

// rootFrom climbs the audit path of a node, number index of size on its level, to
// the root (RFC 9162, 2.1.3.2). It tells whether the path has the right length.
func rootFrom(node digest, index, size int64, path []digest) (digest, bool) {
	if index < 0 || index >= size {
		return digest{}, false
	}
	last := size - 1
	for _, p := range path {
		if last == 0 {
			return digest{}, false
		}
		if index&1 == 1 || index == last {
			node = nodeHash(p, node)
			for index&1 == 0 && index != 0 {
				index >>= 1
				last >>= 1
			}
		} else {
			node = nodeHash(node, p)
		}
		index >>= 1
		last >>= 1
	}
	return node, last == 0
}

// parseDigest reads 64 lower case hexadecimal digits and nothing else.
func parseDigest(s string) (digest, bool) {
	var d digest
	if len(s) != 2*len(d) {
		return d, false
	}
	for i := range d {
		high, low := hexValue[s[2*i]], hexValue[s[2*i+1]]
		if high|low > 0xf {
			return digest{}, false
		}
		d[i] = high<<4 | low
	}
	return d, true
}

// hexValue is the value of a lower case hexadecimal digit, and 0xff of all else.
var hexValue = func() (v [256]byte) {
	for i := range v {
		v[i] = 0xff
	}
	for i, c := range []byte("0123456789abcdef") {
		v[c] = byte(i)
	}
	return v
}()
