package demo

import (
	"context"
	"errors"
	"fmt"

	"github.com/caresphere/caresphere/internal/isolation"
)

// isolationProven has the provisioner prove all tenants and looks at the two.
func (s *story) isolationProven(ctx context.Context) (string, error) {
	file, err := s.operator.ProveIsolation(ctx, "", "")
	if err != nil {
		return "", err
	}
	s.kept.isolation = file
	key, err := isolation.ParseKey(s.o.IsolationKey)
	if err != nil {
		return "", err
	}
	r, err := isolation.Verify(file, key)
	if err != nil {
		return "", err
	}
	refused, seen := 0, 0
	for _, t := range r.Tenants {
		if t.Slug != s.a.slug && t.Slug != s.b.slug {
			continue
		}
		seen++
		if t.Verdict != isolation.Proven {
			return "", fmt.Errorf("%s is %s: %v %v", t.Slug, t.Verdict, t.Findings, t.Unproven)
		}
		for _, l := range t.Layers {
			refused += l.Refused
		}
	}
	if seen != 2 {
		return "", fmt.Errorf("%d of the two are in the report", seen)
	}
	if _, err := isolation.Verify(flipped(file), key); err == nil {
		return "", errors.New("a changed byte of the report went unnoticed")
	}
	return fmt.Sprintf("%d attempts refused beside their twins, the catalog as declared; the signed report verifies and one changed byte is refused", refused), nil
}
