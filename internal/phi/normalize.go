package phi

import (
	"strings"
	"unicode"

	"golang.org/x/text/cases"
	"golang.org/x/text/unicode/norm"
)

// NormalizeName returns the form of a person's name that blind indexes are made
// of: NFKC, case folded, runs of white space as one space, no space at the ends,
// and no control or invisible format characters. Accents stay: Müller is not Muller.
func NormalizeName(t Text) Text {
	s := strings.Map(func(r rune) rune {
		switch {
		case unicode.IsSpace(r):
			return ' '
		case unicode.IsControl(r), unicode.Is(unicode.Cf, r):
			return -1
		}
		return r
	}, fold(t.plain()))
	return NewText(fold(strings.Join(strings.Fields(s), " ")))
}

// NormalizeIdentifier returns the form of a record number or the like: NFKC,
// case folded, letters and digits only, so that "MRN 00-12" and "mrn0012" are one.
func NormalizeIdentifier(t Text) Text {
	return NewText(strings.Map(func(r rune) rune {
		if unicode.IsLetter(r) || unicode.IsDigit(r) {
			return r
		}
		return -1
	}, fold(t.plain())))
}

// fold maps to NFKC and folds case. Folding can undo the normal form and removing
// characters can join others, so it runs to a fixed point; three rounds suffice
// for every string that Unicode's NFKC_Casefold has (the fuzz test looks for one
// that they do not).
func fold(s string) string {
	folder := cases.Fold()
	for range 3 {
		next := norm.NFKC.String(folder.String(norm.NFKC.String(s)))
		if next == s {
			break
		}
		s = next
	}
	return s
}
