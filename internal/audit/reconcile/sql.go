package reconcile

import (
	"strings"
	"unicode"
	"unicode/utf8"
)

// kind is what a token is.
type kind int

const (
	word   kind = iota // a keyword or an identifier, in lower case as the server reads it
	quoted             // "identifier"
	value              // a string, a number, a bit string
	mark               // one character of punctuation, or a parameter
)

// token is one piece of a statement. text of a value is what stands between its quotes.
type token struct {
	kind kind
	text string
}

// name tells whether the token can name something.
func (t token) name() bool { return t.kind == word || t.kind == quoted }

// is tells whether the token is this keyword or character.
func (t token) is(text string) bool { return (t.kind == word || t.kind == mark) && t.text == text }

// lex splits SQL as the server does with standard_conforming_strings on; comments
// are dropped. What never ends goes to the end.
func lex(sql string) []token {
	var out []token
	for i := 0; i < len(sql); {
		c := sql[i]
		switch {
		case c == ' ' || c == '\t' || c == '\n' || c == '\r' || c == '\f' || c == '\v':
			i++
		case strings.HasPrefix(sql[i:], "--"):
			i += untilOr(sql[i:], "\n")
		case strings.HasPrefix(sql[i:], "/*"):
			i += commentEnd(sql[i:])
		case c == '\'':
			text, n := quotedEnd(sql[i:], '\'', false)
			out, i = append(out, token{value, text}), i+n
		case c == '"':
			text, n := quotedEnd(sql[i:], '"', false)
			out, i = append(out, token{quoted, text}), i+n
		case c == '$':
			t, n := dollar(sql[i:])
			out, i = append(out, t), i+n
		case c >= '0' && c <= '9':
			n := 1
			for i+n < len(sql) && (isWord(rune(sql[i+n])) || sql[i+n] == '.') {
				n++
			}
			out, i = append(out, token{value, sql[i : i+n]}), i+n
		default:
			t, n := wordOrMark(sql[i:])
			out, i = append(out, t), i+n
		}
	}
	return out
}

func wordOrMark(s string) (token, int) {
	r, size := utf8.DecodeRuneInString(s)
	if !isWord(r) {
		return token{mark, s[:size]}, size
	}
	n := size
	for n < len(s) {
		r, size := utf8.DecodeRuneInString(s[n:])
		if !isWord(r) && r != '$' {
			break
		}
		n += size
	}
	text := strings.ToLower(s[:n])
	// Prefixed strings: E'…', B'…', X'…', N'…'. A Unicode-escaped name stays the words u, & and "…".
	if n < len(s) && s[n] == '\'' && (text == "e" || text == "b" || text == "x" || text == "n") {
		inside, m := quotedEnd(s[n:], '\'', text == "e")
		return token{value, inside}, n + m
	}
	return token{word, text}, n
}

func isWord(r rune) bool { return r == '_' || unicode.IsLetter(r) || unicode.IsDigit(r) || r >= 0x80 }

func untilOr(s, end string) int {
	if n := strings.Index(s, end); n >= 0 {
		return n + len(end)
	}
	return len(s)
}

// commentEnd is the length of a comment, which may hold others.
func commentEnd(s string) int {
	depth := 0
	for i := 0; i < len(s); {
		switch {
		case strings.HasPrefix(s[i:], "/*"):
			depth++
			i += 2
		case strings.HasPrefix(s[i:], "*/"):
			depth--
			i += 2
			if depth == 0 {
				return i
			}
		default:
			i++
		}
	}
	return len(s)
}

// quotedEnd returns what stands between the quotes and the length with them.
func quotedEnd(s string, quote byte, escapes bool) (string, int) {
	var b strings.Builder
	for i := 1; i < len(s); i++ {
		switch {
		case escapes && s[i] == '\\' && i+1 < len(s):
			i++
			b.WriteByte(s[i])
		case s[i] == quote && i+1 < len(s) && s[i+1] == quote:
			i++
			b.WriteByte(quote)
		case s[i] == quote:
			return b.String(), i + 1
		default:
			b.WriteByte(s[i])
		}
	}
	return b.String(), len(s)
}

// dollar reads $1, or a dollar-quoted string.
func dollar(s string) (token, int) {
	n := 1
	for n < len(s) && isWord(rune(s[n])) {
		n++
	}
	if n < len(s) && s[n] == '$' && (n == 1 || s[1] < '0' || s[1] > '9') {
		tag := s[:n+1]
		if end := strings.Index(s[n+1:], tag); end >= 0 {
			return token{value, s[n+1 : n+1+end]}, n + 1 + end + len(tag)
		}
		return token{value, s[n+1:]}, len(s)
	}
	return token{mark, s[:n]}, n
}

// statements splits tokens at the semicolons.
func statements(tokens []token) [][]token {
	var out [][]token
	start := 0
	for i, t := range tokens {
		if t.is(";") {
			if i > start {
				out = append(out, tokens[start:i])
			}
			start = i + 1
		}
	}
	if start < len(tokens) {
		out = append(out, tokens[start:])
	}
	return out
}

// exact renders tokens so that two statements are equal if and only if they differ
// in nothing but white space, comments and the case of keywords.
func exact(tokens []token) string {
	var b strings.Builder
	for _, t := range tokens {
		b.WriteByte(byte('0' + t.kind))
		b.WriteString(t.text)
		b.WriteByte(0)
	}
	return b.String()
}

// maxShown bounds a statement in a report, in bytes.
const maxShown = 500

// shown renders a statement without its values.
func shown(tokens []token) string {
	var b strings.Builder
	for i, t := range tokens {
		tight := i == 0 || t.is(".") || t.is(",") || t.is(")") || t.is("(") && tokens[i-1].name() ||
			tokens[i-1].is(".") || tokens[i-1].is("(") || t.is(":") || tokens[i-1].is(":")
		if !tight {
			b.WriteByte(' ')
		}
		switch t.kind {
		case value:
			b.WriteString("?")
		case quoted:
			b.WriteString(`"` + strings.ReplaceAll(t.text, `"`, `""`) + `"`)
		default:
			b.WriteString(t.text)
		}
		if b.Len() > maxShown {
			return strings.ToValidUTF8(b.String()[:maxShown], "") + "…"
		}
	}
	return b.String()
}
