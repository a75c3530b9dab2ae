package prove

import (
	"fmt"
	"io"
	"strconv"
)

// Print writes a line for each figure and returns how many hold a surprise.
func Print(w io.Writer, sums []*Sum) (surprises int) {
	for _, s := range sums {
		mark, end := "ok  ", ""
		if why := s.Surprise(); why != "" {
			surprises++
			mark, end = "FAIL", ": "+why
		}
		if mark != "FAIL" && s.Cannot != "" && s.TriedN == 0 {
			mark, end = "none", ": not tried here: "+s.Cannot
		}
		planted := ""
		if s.Planted > 0 || s.Plants > 0 {
			planted = fmt.Sprintf("; %d of %d planted faults noticed", s.Noticed, s.Planted)
		}
		fmt.Fprintf(w, "%s  %-27s %9s %s, %s %s, %s expected%s%s\n", mark, s.Key(),
			thousands(s.TriedN), s.Tried, thousands(s.FoundN), s.Found, thousands(s.Want()), planted, end)
	}
	return surprises
}

// thousands writes 1234567 as 1,234,567.
func thousands(n int) string {
	s := strconv.Itoa(n)
	for i := len(s) - 3; i > 0 && s[i-1] != '-'; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}

// Line is a figure for machines.
type Line struct {
	Name     string   `json:"name"`
	Promises string   `json:"promises"`
	Tried    int      `json:"tried"`
	What     string   `json:"what"`
	Found    int      `json:"found"`
	Of       string   `json:"of"`
	Expected int      `json:"expected"`
	Planted  int      `json:"planted"`
	Noticed  int      `json:"noticed"`
	By       []string `json:"by"`
	Surprise string   `json:"surprise,omitempty"`
	// Cannot is why this machine could not try it.
	Cannot string `json:"cannot,omitempty"`
}

// Lines returns the figures for machines.
func Lines(sums []*Sum) []Line {
	lines := make([]Line, 0, len(sums))
	for _, s := range sums {
		lines = append(lines, Line{Name: s.Key(), Promises: s.Promises, Tried: s.TriedN, What: s.Tried, Found: s.FoundN, Of: s.Found,
			Expected: s.Want(), Planted: s.Planted, Noticed: s.Noticed, By: s.By, Surprise: s.Surprise(), Cannot: s.Cannot})
	}
	return lines
}
