// Command bill holds bills of materials against the programs that they are of.
//
// It trusts what the Go linker wrote into each program, and nothing that the bills'
// maker says. It changes nothing.
package main

import (
	"debug/buildinfo"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"maps"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

func main() {
	flag.Usage = func() {
		fmt.Fprintln(os.Stderr, `Usage: bill FOLDER BILL [BILL ...]

Exit status 1 if a module of a program in the folder is missing in one of the bills
(SPDX or CycloneDX, JSON), or one is in a bill and in none of the programs.

Example: bill bin bin/sbom.spdx.json bin/sbom.cdx.json`)
	}
	flag.Parse()
	if flag.NArg() < 2 {
		flag.Usage()
		os.Exit(2)
	}
	if err := run(flag.Arg(0), flag.Args()[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "bill:", err)
		os.Exit(1)
	}
}

func run(folder string, bills []string) error {
	linked, programs, err := modules(folder)
	if err != nil {
		return err
	}
	if programs == 0 {
		return fmt.Errorf("no Go program in %s", folder)
	}
	var all []error
	for _, file := range bills {
		text, err := os.ReadFile(file)
		if err != nil {
			return fmt.Errorf("reading a bill: %w", err)
		}
		named, err := packages(text)
		if err != nil {
			return fmt.Errorf("reading %s: %w", file, err)
		}
		for _, d := range differences(linked, named) {
			all = append(all, fmt.Errorf("%s: %s", file, d))
		}
	}
	if len(all) > 0 {
		return errors.Join(all...)
	}
	fmt.Printf("%d modules of %d programs, each in each of %d bills, and no other\n", len(linked), programs, len(bills))
	return nil
}

// modules returns what the programs in the folder are linked from, as package URLs
// without their scheme, and how many programs there are.
func modules(folder string) (linked map[string]bool, programs int, err error) {
	entries, err := os.ReadDir(folder)
	if err != nil {
		return nil, 0, fmt.Errorf("reading the folder of programs: %w", err)
	}
	linked = map[string]bool{}
	for _, e := range entries {
		info, err := buildinfo.ReadFile(filepath.Join(folder, e.Name()))
		if err != nil {
			continue // no Go program
		}
		programs++
		for _, m := range info.Deps {
			if m.Replace != nil {
				m = m.Replace
			}
			linked[strings.ToLower(m.Path+"@"+m.Version)] = true
		}
	}
	return linked, programs, nil
}

// scheme begins the package URL of a Go module.
const scheme = "pkg:golang/"

// packages returns the Go modules that a bill names anywhere. Our own, which has no
// version from a registry, and the standard library are no modules of others.
func packages(bill []byte) (map[string]bool, error) {
	var tree any
	if err := json.Unmarshal(bill, &tree); err != nil {
		return nil, err
	}
	named := map[string]bool{}
	var walk func(any)
	walk = func(v any) {
		switch v := v.(type) {
		case map[string]any:
			for _, child := range v {
				walk(child)
			}
		case []any:
			for _, child := range v {
				walk(child)
			}
		case string:
			rest, ok := strings.CutPrefix(v, scheme)
			if !ok {
				return
			}
			rest, _, _ = strings.Cut(rest, "?")
			path, inside, _ := strings.Cut(rest, "#")
			if module, version, ok := strings.Cut(path, "@"); ok {
				if inside != "" {
					module += "/" + inside
				}
				path = module + "@" + version
			}
			if plain, err := url.PathUnescape(path); err == nil {
				path = plain
			}
			if path = strings.ToLower(path); !strings.HasPrefix(path, "github.com/caresphere/caresphere@") && !strings.HasPrefix(path, "stdlib@") {
				named[path] = true
			}
		}
	}
	walk(tree)
	return named, nil
}

func differences(linked, named map[string]bool) []string {
	var out []string
	for _, m := range slices.Sorted(maps.Keys(linked)) {
		if !named[m] {
			out = append(out, m+" is linked, and missing in it")
		}
	}
	for _, m := range slices.Sorted(maps.Keys(named)) {
		if !linked[m] {
			out = append(out, m+" is in it, and in no program")
		}
	}
	return out
}
