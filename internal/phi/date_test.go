package phi_test

import (
	"testing"
	"time"

	"github.com/caresphere/caresphere/internal/phi"
	"github.com/caresphere/caresphere/tenants"
)

func TestDateMustExist(t *testing.T) {
	for _, c := range []struct {
		year  int
		month time.Month
		day   int
		ok    bool
	}{
		{2000, 2, 29, true}, {1900, 2, 29, false}, {2001, 2, 29, false}, {2001, 13, 1, false}, {2001, 4, 31, false},
		{0, 1, 1, false}, {1, 1, 1, true}, {9999, 12, 31, true}, {10000, 1, 1, false}, {2001, 0, 1, false}, {2001, 1, 0, false},
	} {
		d, err := phi.NewDate(c.year, c.month, c.day)
		if (err == nil) != c.ok || err != nil && !tenants.IsKind(err, tenants.KindInvalid) {
			t.Errorf("%v: %v", c, err)
		}
		if err == nil {
			again, err := phi.ParseDate(d.Text())
			if err != nil || again.Compare(d) != 0 {
				t.Errorf("%v does not come back: %v", c, err)
			}
		}
	}
	if d, err := phi.ParseDate(phi.Text{}); err != nil || !d.IsZero() || !d.Text().IsZero() {
		t.Errorf("no date: %v", err)
	}
}

func TestDateCompares(t *testing.T) {
	day := func(s string) phi.Date {
		d, err := phi.ParseDate(phi.NewText(s))
		if err != nil {
			t.Fatal(err)
		}
		return d
	}
	if day("1931-07-23").Compare(day("1931-07-24")) != -1 || day("1931-07-24").Compare(day("1931-07-23")) != 1 ||
		day("").Compare(day("1931-07-23")) != -1 || day("1931-07-23").Compare(day("")) != 1 || day("").Compare(day("")) != 0 {
		t.Error("dates compare wrongly")
	}
	// The day is that of the clock's own zone.
	now := time.Date(2026, 11, 21, 23, 30, 0, 0, time.FixedZone("", -8*3600))
	for s, want := range map[string]bool{"2026-11-21": false, "2026-11-22": true, "1931-07-23": false, "": false} {
		if day(s).After(now) != want {
			t.Errorf("%q after the clock is not %v", s, want)
		}
	}
}

func TestTextCountsAndCompares(t *testing.T) {
	if phi.NewText("Zoë😀").Len() != 4 || !phi.NewText("").IsZero() || phi.NewText("x").IsZero() || (phi.Text{}).Len() != 0 {
		t.Error("length or zero is wrong")
	}
	if !phi.NewText("a").Equal(phi.NewText("a")) || phi.NewText("a").Equal(phi.NewText("b")) || phi.NewText("a").Equal(phi.Text{}) {
		t.Error("equality is wrong")
	}
}
