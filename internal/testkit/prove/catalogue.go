package prove

import (
	"slices"
	"strings"
)

// Area is a part of the proof.
type Area string

// The areas, in the order in which they are run and printed.
const (
	Isolation Area = "isolation"
	Attacks   Area = "attacks"
	Faults    Area = "faults"
	Outages   Area = "outages"
	Audit     Area = "audit"
	Secrecy   Area = "secrecy"
)

// Areas returns all areas in their order.
func Areas() []Area { return []Area{Isolation, Attacks, Faults, Outages, Audit, Secrecy} }

// figures is filled where the figures of an area are declared.
var figures []*Figure

// declare puts a figure into the catalogue. Two of one name are a mistake of the
// program's author.
func declare(f Figure) *Figure {
	for _, other := range figures {
		if other.Key() == f.Key() {
			panic("prove: two figures are called " + f.Key())
		}
	}
	figures = append(figures, &f)
	return &f
}

// Catalogue returns every figure, by area and name.
func Catalogue() []*Figure {
	all := slices.Clone(figures)
	order := Areas()
	slices.SortFunc(all, func(a, b *Figure) int {
		if a.Area != b.Area {
			return slices.Index(order, a.Area) - slices.Index(order, b.Area)
		}
		return strings.Compare(a.Name, b.Name)
	})
	return all
}
