package httpx

import (
	"bytes"
	"strings"
	"unicode/utf8"

	"github.com/gofiber/fiber/v2"
)

const (
	maxHeaders = 100
	maxURI     = 8 << 10
)

// checkRequest refuses requests that two readers could understand differently:
// another version than HTTP/1.1, header names that are no tokens, a Host with
// user information, and a path or query that is not in its one canonical form.
func checkRequest(c *fiber.Ctx) error {
	h := &c.Request().Header
	if !h.IsHTTP11() {
		return fiber.ErrHTTPVersionNotSupported
	}
	n := 0
	for k := range h.All() {
		if !isToken(k) {
			return Malformed("header", "a header's name is not a token")
		}
		n++
	}
	if err := checkFraming(h.RawHeaders()); err != nil {
		return err
	}
	if n > maxHeaders {
		return fiber.ErrRequestHeaderFieldsTooLarge
	}
	if !isHost(h.Host()) {
		return Malformed("header.Host", "must be a host and an optional port")
	}
	uri := h.RequestURI()
	if len(uri) > maxURI {
		return fiber.ErrRequestURITooLong
	}
	return checkTarget(string(uri))
}

// checkFraming refuses a folded header, one that ends in a line feed alone and a
// body framed twice: the server picks one meaning (RFC 9112, 2.2, 5.2 and 6.3), and
// what stood before it may have picked the other.
func checkFraming(head []byte) error {
	var length, coding bool
	for line := range bytes.Lines(head) {
		if line[0] == ' ' || line[0] == '\t' {
			return Malformed("header", "a header is folded over lines")
		}
		if !bytes.HasSuffix(line, []byte("\r\n")) {
			return Malformed("header", "a header does not end in CR and LF")
		}
		name, _, _ := bytes.Cut(line, []byte(":"))
		length = length || bytes.EqualFold(name, []byte("Content-Length"))
		coding = coding || bytes.EqualFold(name, []byte("Transfer-Encoding"))
	}
	if length && coding {
		return Malformed("header.Content-Length", "must not stand beside Transfer-Encoding")
	}
	return nil
}

// checkTarget checks a request target in origin form (RFC 9112, 3.2.1). The
// errors are malformed requests that name path or query.
func checkTarget(uri string) error {
	if !strings.HasPrefix(uri, "/") {
		return Malformed("path", "must begin with a slash")
	}
	for i := 0; i < len(uri); i++ {
		if b := uri[i]; b <= 0x20 || b >= 0x7f || b == '\\' || b == '#' {
			return Malformed("path", "holds a character that must be percent-encoded")
		}
	}
	path, query, _ := strings.Cut(uri, "?")
	if strings.Contains(path, "//") {
		return Malformed("path", "has an empty segment")
	}
	for _, seg := range strings.Split(path, "/") {
		if seg == "." || seg == ".." {
			return Malformed("path", "has a dot segment")
		}
	}
	decoded, ok := unescape(path, func(b byte) bool {
		return isUnreserved(b) || b == '/' || b == '\\' || b == '%' || b < 0x20 || b == 0x7f
	})
	if !ok {
		return Malformed("path", "is percent-encoded where it need not or may not be")
	}
	if !utf8.Valid(decoded) {
		return Malformed("path", "is not valid UTF-8")
	}
	return checkQuery(query)
}

func checkQuery(query string) error {
	for query != "" {
		var pair string
		pair, query, _ = strings.Cut(query, "&")
		name, value, _ := strings.Cut(pair, "=")
		n, ok := unescape(name, isNUL)
		if !ok || !utf8.Valid(n) {
			return Malformed("query", "a parameter's name is not percent-encoded UTF-8")
		}
		v, ok := unescape(value, isNUL)
		if !ok || !utf8.Valid(v) {
			return Malformed("query."+fieldName(string(n)), "must be percent-encoded UTF-8")
		}
	}
	return nil
}

func isNUL(b byte) bool { return b == 0 }

// unescape decodes %XX and reports false for a broken escape or one of a byte
// that refuse names. A plus stays one.
func unescape(s string, refuse func(byte) bool) ([]byte, bool) {
	if !strings.Contains(s, "%") {
		return []byte(s), true
	}
	out := make([]byte, 0, len(s))
	for i := 0; i < len(s); i++ {
		if s[i] != '%' {
			out = append(out, s[i])
			continue
		}
		if i+2 >= len(s) {
			return nil, false
		}
		hi, lo := unhex(s[i+1]), unhex(s[i+2])
		if hi > 15 || lo > 15 {
			return nil, false
		}
		b := hi<<4 | lo
		if refuse(b) {
			return nil, false
		}
		out = append(out, b)
		i += 2
	}
	return out, true
}

func unhex(b byte) byte {
	switch {
	case b >= '0' && b <= '9':
		return b - '0'
	case b >= 'A' && b <= 'F':
		return b - 'A' + 10
	case b >= 'a' && b <= 'f':
		return b - 'a' + 10
	}
	return 0xff
}

func isUnreserved(b byte) bool {
	return b >= 'a' && b <= 'z' || b >= 'A' && b <= 'Z' || b >= '0' && b <= '9' || strings.IndexByte("-._~", b) >= 0
}

// isToken follows RFC 9110, 5.6.2.
func isToken(b []byte) bool {
	for _, c := range b {
		if (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && (c < '0' || c > '9') &&
			bytes.IndexByte([]byte("!#$%&'*+-.^_`|~"), c) < 0 {
			return false
		}
	}
	return len(b) > 0
}

func isHost(b []byte) bool {
	for _, c := range b {
		if (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && (c < '0' || c > '9') && bytes.IndexByte([]byte(".-:[]_"), c) < 0 {
			return false
		}
	}
	return len(b) > 0 && len(b) <= 255
}

// fieldName returns a client's own name for a field if it is short and plain, so
// that an answer never carries arbitrary bytes of the request.
func fieldName(s string) string {
	if s == "" || len(s) > 64 {
		return "(unnamed)"
	}
	for i := 0; i < len(s); i++ {
		if !isUnreserved(s[i]) && s[i] != '[' && s[i] != ']' {
			return "(unnamed)"
		}
	}
	return s
}
