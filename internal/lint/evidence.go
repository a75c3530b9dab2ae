package lint

import (
	"fmt"
	"regexp"
	"slices"
)

var (
	namedTest = regexp.MustCompile(`\bTest[A-Z]\w+`)
	namedFile = regexp.MustCompile("`((?:cmd|controlplane|dataplane|docs|internal|migrations|tenants)/[\\w./-]*)`")
)

// Evidence returns a line for each test and each file that a document names and
// that is not there.
func Evidence(document string, tests []string, exists func(path string) bool) []string {
	var wrong []string
	for _, name := range namedTest.FindAllString(document, -1) {
		if !slices.Contains(tests, name) {
			wrong = append(wrong, fmt.Sprintf("there is no test %s", name))
		}
	}
	for _, m := range namedFile.FindAllStringSubmatch(document, -1) {
		if !exists(m[1]) {
			wrong = append(wrong, fmt.Sprintf("there is no %s", m[1]))
		}
	}
	return wrong
}
