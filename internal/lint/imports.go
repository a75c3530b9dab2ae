package lint

import (
	"fmt"
	"slices"
	"strings"
)

// Module is this module's path.
const Module = "github.com/caresphere/caresphere"

// Package is what the rules need to know of a package; paths within the module
// are relative to it, as "internal/pg".
type Package struct {
	Path string
	// Imports are its own and those of its tests.
	Imports, TestImports []string
	// Standard packages are those of the standard library among the imports.
	Standard map[string]bool
}

// rank orders the layers: a package imports its own layer and those below.
// tenants <- internal <- the planes <- cmd; migrations stands beside internal.
var rank = map[string]int{"tenants": 0, "migrations": 1, "terraform": 1, "internal": 1, "controlplane": 2, "dataplane": 2, "cmd": 3}

func layer(path string) string {
	first, _, _ := strings.Cut(path, "/")
	return first
}

// Direction returns a line for each import against the order of layers, and for
// each between the two planes. Tests are held to the same, but may use modules.
func Direction(p Package) []string {
	var wrong []string
	from, known := rank[layer(p.Path)]
	if !known {
		return []string{fmt.Sprintf("%s stands in no layer", p.Path)}
	}
	for i, imp := range slices.Concat(p.Imports, p.TestImports) {
		to, ours := rank[layer(imp)]
		ours = ours && !p.Standard[imp]
		switch {
		case layer(p.Path) == "tenants" && i < len(p.Imports) && !p.Standard[imp] && layer(imp) != "tenants":
			wrong = append(wrong, fmt.Sprintf("%s imports %s: only the standard library may stand below it", p.Path, imp))
		case ours && to > from:
			wrong = append(wrong, fmt.Sprintf("%s imports %s: the layers point the other way", p.Path, imp))
		case ours && to == 2 && from == 2 && layer(p.Path) != layer(imp):
			wrong = append(wrong, fmt.Sprintf("%s imports %s: the planes never import each other", p.Path, imp))
		}
	}
	return wrong
}

// plane says which packages of a plane others of it may import.
type plane struct {
	// shared carry no step of the business of their own: SQL, job arguments, the door.
	shared []string
	// surfaces and test support may import every package of the plane.
	surfaces []string
}

var planes = map[string]plane{
	"controlplane": {
		shared:   []string{"store", "jobs", "acts", "input", "attempts", "idempotency", "session", "outbox"},
		surfaces: []string{"api", "web", "cptest"},
	},
	"dataplane": {
		shared:   []string{"store", "access", "records"},
		surfaces: []string{"api", "dptest"},
	},
}

// Siblings returns a line for each import between two steps of one plane: they
// meet through tenants' types, the database and jobs.
func Siblings(p Package) []string {
	side, own, _ := strings.Cut(p.Path, "/")
	rules, ok := planes[side]
	if !ok || slices.Contains(rules.surfaces, own) {
		return nil
	}
	var wrong []string
	for _, imp := range p.Imports {
		there, sibling, _ := strings.Cut(imp, "/")
		if there != side || slices.Contains(rules.shared, sibling) {
			continue
		}
		// A surface built on another, and a package's own parts, are one thing.
		if strings.HasPrefix(sibling, own+"/") {
			continue
		}
		wrong = append(wrong, fmt.Sprintf("%s imports %s: siblings never import each other", p.Path, imp))
	}
	return wrong
}

// forbidden is what a binary must not link, by import path or a prefix that ends
// in a slash. database/sql/driver is types alone and everywhere.
var forbidden = map[string][]string{
	"router":       {"database/sql", "github.com/jackc/", "github.com/riverqueue/", "github.com/stripe/", "github.com/hashicorp/", "github.com/ory/"},
	"dataplane":    {"github.com/riverqueue/", "github.com/stripe/", "github.com/hashicorp/terraform-exec/", Module + "/controlplane/"},
	"controlplane": {"github.com/hashicorp/vault/", "github.com/hashicorp/terraform-exec/", Module + "/dataplane/"},
	"provisioner":  {Module + "/dataplane/"},
}

// Linked returns a line for each package that the binary's dependencies hold and
// must not.
func Linked(binary string, deps []string) []string {
	var wrong []string
	for _, dep := range deps {
		for _, f := range forbidden[binary] {
			if dep == f || strings.HasSuffix(f, "/") && strings.HasPrefix(dep, f) {
				wrong = append(wrong, fmt.Sprintf("cmd/%s links %s", binary, dep))
			}
		}
	}
	return wrong
}
