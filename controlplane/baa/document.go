package baa

import (
	"bytes"
	"html"
	"strconv"
	"strings"
)

// block is one line of the canonical text with its meaning.
type block struct {
	level int // 1 and 2 for headings, 0 for a paragraph
	text  string
}

// blocks reads the canonical text: "# " and "## " begin headings, every other
// line that is not empty is a paragraph.
func blocks(document []byte) []block {
	var out []block
	for _, line := range strings.Split(string(document), "\n") {
		switch {
		case line == "":
		case strings.HasPrefix(line, "## "):
			out = append(out, block{2, line[3:]})
		case strings.HasPrefix(line, "# "):
			out = append(out, block{1, line[2:]})
		default:
			out = append(out, block{0, line})
		}
	}
	return out
}

// HTML returns the canonical text as a part of a page: headings, the highest of
// them of the given level, and paragraphs, every character of the text escaped.
func HTML(document []byte, level int) string {
	var b bytes.Buffer
	for _, l := range blocks(document) {
		tag := "p"
		if l.level > 0 {
			tag = "h" + strconv.Itoa(level+l.level-1)
		}
		b.WriteString("<" + tag + ">" + html.EscapeString(l.text) + "</" + tag + ">\n")
	}
	return b.String()
}

// Page returns the text as a page of its own.
func Page(document []byte, hash string) string {
	return "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">" +
		"<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">" +
		"<title>Business Associate Agreement</title></head><body>\n<main>\n" + HTML(document, 1) +
		"</main>\n<footer><p>SHA-256 of the canonical text: <code>" + html.EscapeString(hash) + "</code></p></footer>\n</body></html>\n"
}
