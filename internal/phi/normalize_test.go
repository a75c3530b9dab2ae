package phi_test

import (
	"testing"

	"github.com/caresphere/caresphere/internal/phi"
)

func TestNormalizedNamesMeet(t *testing.T) {
	for _, c := range []struct {
		a, b string
		same bool
	}{
		{"Alvarez", " aLVAREZ ", true}, {"van  der\tBerg", "Van der Berg", true}, {"Zoë", "Zoe\u0308", true}, {"Straße", "STRASSE", true},
		{"ﬁsher", "Fisher", true}, {"O\u00a0Neill", "o neill", true}, {"Anna\u200bLee", "AnnaLee", true}, {"ＡＢＣ", "abc", true}, {"ΣΊΣΥΦΟΣ", "σίσυφος", true},
		{"Müller", "Muller", false}, {"O'Neill", "ONeill", false}, {"Anna Lee", "AnnaLee", false}, {"a", "b", false},
	} {
		a, b := phi.NormalizeName(phi.NewText(c.a)), phi.NormalizeName(phi.NewText(c.b))
		if a.Equal(b) != c.same {
			t.Errorf("%q and %q: same is not %v", c.a, c.b, c.same)
		}
	}
	if !phi.NormalizeName(phi.NewText(" \t\u200b")).IsZero() {
		t.Error("blanks have a normal form")
	}
}

func TestNormalizedIdentifiersMeet(t *testing.T) {
	for _, c := range []struct {
		a, b string
		same bool
	}{
		{"MRN 00-12", "mrn0012", true}, {"12/34.5", "12345", true}, {"٣", "3", false}, {"0012", "12", false}, {"A1", "A2", false}, {"１２", "12", true},
	} {
		a, b := phi.NormalizeIdentifier(phi.NewText(c.a)), phi.NormalizeIdentifier(phi.NewText(c.b))
		if a.Equal(b) != c.same {
			t.Errorf("%q and %q: same is not %v", c.a, c.b, c.same)
		}
	}
}

// TestEveryCharacterHasAFixedForm goes through every assigned plane of letters.
func TestEveryCharacterHasAFixedForm(t *testing.T) {
	for r := rune(0); r < 0x20000; r++ {
		text := phi.NewText("x" + string(r) + "\u0301")
		if once := phi.NormalizeName(text); !phi.NormalizeName(once).Equal(once) {
			t.Errorf("%U has no fixed normal form", r)
		}
	}
}

// FuzzNormalize: normalizing twice is normalizing once, else a value that was
// stored normalized would not be found again.
func FuzzNormalize(f *testing.F) {
	for _, s := range []string{"", "a", "Straße", "\u0345\u0301", "ΐ", "İ", "\u1e9e", "a\u0308\u200b\u0323", "\xff", "ǰ \u00a0x"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		for name, normalize := range map[string]func(phi.Text) phi.Text{"name": phi.NormalizeName, "identifier": phi.NormalizeIdentifier} {
			once := normalize(phi.NewText(s))
			if !normalize(once).Equal(once) {
				t.Errorf("%s: %q has no fixed normal form", name, s)
			}
		}
	})
}
