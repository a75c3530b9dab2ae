package identitygate

import (
	"context"
	"net/http"
	"strings"

	"github.com/caresphere/caresphere/internal/audit"
	"github.com/caresphere/caresphere/tenants"
)

// otherSessions lists or ends other sessions of the session's account. Whoever has a
// second factor does neither without it: a password alone, or a mailbox alone, would
// show where its holder works and put them out. What was ended is recorded, and so is
// a refusal; an answer whose record cannot be written is withheld.
func (x *exchange) otherSessions() (answer, error) {
	ev := x.event("session.list", audit.OutcomeOK)
	ends := x.request.method == http.MethodDelete
	if ends {
		ev.Action = "session.end_others"
		if id, one := strings.CutPrefix(x.request.path, "sessions/"); one {
			ev.Action, ev.Detail["session"] = "session.end_other", id
		}
	}
	if err := x.identify(); err != nil {
		return answer{}, err
	}
	if err := x.needSecondFactor(); err != nil {
		if tenants.IsKind(err, tenants.KindSecondFactor) {
			ev.Outcome, ev.Detail["reason"] = audit.OutcomeDenied, string(tenants.KindSecondFactor)
			if unwritten := x.owe(ev); unwritten != nil {
				return answer{}, unwritten
			}
		}
		return answer{}, err
	}
	a, err := x.gate.kratos.do(x.ctx, x.request)
	if !ends {
		return a, err
	}
	switch {
	case err != nil:
		// Kratos may have done it all the same.
		ev.Outcome = audit.OutcomeFailed
	case a.status >= http.StatusBadRequest:
		ev.Outcome = audit.OutcomeDenied
	}
	if unwritten := x.owe(ev); unwritten != nil {
		return answer{}, unwritten
	}
	return a, err
}

// needSecondFactor returns KindSecondFactor for a session without the second factor
// that its account has.
func (x *exchange) needSecondFactor() error {
	if x.who.SecondFactor {
		return nil
	}
	f, err := x.gate.cfg.IDs.Factors(x.ctx, x.who.IdentityID)
	if err != nil {
		return err
	}
	if f.SecondFactor() {
		return tenants.NewError(tenants.KindSecondFactor, "sign in with your second factor")
	}
	return nil
}

// owe writes an entry also when the client has gone meanwhile. The error is KindUnavailable.
func (x *exchange) owe(ev audit.Event) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(x.ctx), recordTimeout)
	defer cancel()
	outer := x.ctx
	x.ctx = ctx
	defer func() { x.ctx = outer }()
	if err := x.insert(ev); err != nil {
		return tenants.WrapError(tenants.KindUnavailable, "not available at the moment", err)
	}
	return nil
}
