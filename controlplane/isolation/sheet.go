package isolation

import (
	"context"
	"errors"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/caresphere/caresphere/internal/isolation"
)

// sheet collects what was tried of one tenant.
type sheet struct {
	t      *isolation.Tenant
	counts map[string]*isolation.Layer
	// behind is what does not follow the gate's decision.
	behind []isolation.Finding
}

func newSheet(s subject) *sheet {
	t := &isolation.Tenant{ID: s.id, Slug: s.slug, State: s.state, Gate: s.gate, Peers: nil, Layers: []isolation.Layer{},
		Findings: []isolation.Finding{}, Unproven: []string{}}
	return &sheet{t: t, counts: map[string]*isolation.Layer{}}
}

func (s *sheet) count(layer string) *isolation.Layer {
	if s.counts[layer] == nil {
		s.counts[layer] = &isolation.Layer{Layer: layer}
	}
	return s.counts[layer]
}

// outcome is how an attempt ended.
type outcome int

const (
	allowed outcome = iota
	refused
	// unclear: something else stood in the way, so the attempt shows nothing.
	unclear
)

// mustRefuse enters an attempt that has to be refused.
func (s *sheet) mustRefuse(layer, object, what string, o outcome, detail string) {
	switch o {
	case refused:
		s.count(layer).Refused++
	case allowed:
		s.found(layer, object, what+" was allowed")
	default:
		s.unproven(layer + ": " + object + ": " + what + ": " + detail)
	}
}

// mustAllow enters the twin: without it the refusals beside it show nothing.
func (s *sheet) mustAllow(layer, object, what string, o outcome, detail string) {
	if o == allowed {
		s.count(layer).Allowed++
		return
	}
	s.unproven(layer + ": " + object + ": " + what + " did not succeed: " + detail)
}

func (s *sheet) found(layer, object, problem string) {
	s.add(isolation.Finding{Layer: layer, Object: object, Problem: problem})
}

// mostFindings keeps the report of a tenant that is altogether broken readable.
const mostFindings = 200

func (s *sheet) add(f isolation.Finding) {
	if len(s.t.Findings) < mostFindings {
		s.t.Findings = append(s.t.Findings, f)
	}
}

// follows enters what should follow the gate and does not: while the gate moves, that is
// no more than to be expected.
func (s *sheet) follows(f isolation.Finding) { s.behind = append(s.behind, f) }

// mustFollow is mustRefuse for what is refused because the gate is closed.
func (s *sheet) mustFollow(layer, object, what string, o outcome, detail string) {
	if o == allowed {
		s.follows(isolation.Finding{Layer: layer, Object: object, Problem: what + " was allowed"})
		return
	}
	s.mustRefuse(layer, object, what, o, detail)
}

func (s *sheet) unproven(what string) {
	if len(s.t.Unproven) < mostFindings {
		s.t.Unproven = append(s.t.Unproven, short(what))
	}
}

// done gives the verdict. Of a gate that moved meanwhile nobody can say whether what
// did not follow it would have, given time.
func (s *sheet) done(moved bool) isolation.Tenant {
	for _, f := range s.behind {
		if moved {
			s.unproven(f.String() + ", but the gate was moving")
		} else {
			s.add(f)
		}
	}
	for _, name := range []string{isolation.LayerRoute, isolation.LayerSession, isolation.LayerSQL, isolation.LayerContext,
		isolation.LayerKey, isolation.LayerStorage, isolation.LayerDeclared} {
		if c := s.counts[name]; c != nil {
			s.t.Layers = append(s.t.Layers, *c)
		}
	}
	switch {
	case len(s.t.Findings) > 0:
		s.t.Verdict = isolation.Failed
	case len(s.t.Unproven) > 0:
		s.t.Verdict = isolation.Unproven
	default:
		s.t.Verdict = isolation.Proven
	}
	return *s.t
}

// sqlOutcome reads the answer of the database: a refusal is one with these codes.
func sqlOutcome(err error, codes ...string) (outcome, string) {
	var server *pgconn.PgError
	switch {
	case err == nil:
		return allowed, ""
	case errors.As(err, &server):
		for _, c := range codes {
			if server.Code == c {
				return refused, ""
			}
		}
		return unclear, "the database answered " + server.Code
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, context.Canceled):
		return unclear, "the database did not answer in time"
	}
	return unclear, "the database did not answer"
}
