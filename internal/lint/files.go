package lint

import (
	"bytes"
	"fmt"
	"regexp"
	"slices"
	"strings"
)

// Lines a file may have. Tests may be longer: their tables are read by rows.
const (
	MaxLines     = 400
	MaxTestLines = 550
)

var generated = regexp.MustCompile(`(?m)^// Code generated .* DO NOT EDIT\.$`)

// Length returns a line if a Go file is longer than it may be. Generated files
// may have any length.
func Length(path string, content []byte) []string {
	most := MaxLines
	if strings.HasSuffix(path, "_test.go") || strings.HasSuffix(path, "test.go") && strings.Contains(path, "test/") {
		most = MaxTestLines
	}
	if n := bytes.Count(content, []byte("\n")); n > most && !generated.Match(content) {
		return []string{fmt.Sprintf("%s has %d lines, more than %d: split it by concern", path, n, most)}
	}
	return nil
}

// unwanted are words that leave work undone.
var unwanted = regexp.MustCompile(`\b(TO` + `DO|FIX` + `ME|X` + `XX)\b|\bt\.Sk` + `ip`)

// Unfinished returns a line for each mark of unfinished work and each skipped test.
func Unfinished(path string, content []byte) []string {
	var wrong []string
	for i, line := range bytes.Split(content, []byte("\n")) {
		if m := unwanted.Find(line); m != nil {
			wrong = append(wrong, fmt.Sprintf("%s:%d: %s", path, i+1, m))
		}
	}
	return wrong
}

// MaxBytes is the size a file may have. What is larger was built, not written.
const MaxBytes = 512 << 10

// top is what the top of the tree may hold, beside files and folders whose names begin with a dot.
var top = []string{
	"controlplane", "dataplane", "tenants", "terraform", "migrations", "cmd", "internal", "docs", "bin",
	"go.mod", "go.sum", "Makefile", "README.md", "CHANGELOG.md", "LICENSE", "sqlc.yaml",
}

// Stray returns a line for a file or folder that has no place at the top of the
// tree, where `go build` leaves a program that nobody meant to keep, and for a
// file of any place that is larger than anything written by hand.
func Stray(path string, size int64) []string {
	first, _, deeper := strings.Cut(path, "/")
	if !deeper && !strings.HasPrefix(first, ".") && !slices.Contains(top, first) {
		return []string{path + " has no place at the top of the tree"}
	}
	if size > MaxBytes {
		return []string{fmt.Sprintf("%s has %d bytes, more than %d", path, size, int64(MaxBytes))}
	}
	return nil
}
