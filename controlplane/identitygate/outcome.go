package identitygate

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/caresphere/caresphere/controlplane/session"
	"github.com/caresphere/caresphere/controlplane/store"
	"github.com/caresphere/caresphere/internal/audit"
	"github.com/caresphere/caresphere/internal/identity"
	"github.com/caresphere/caresphere/internal/pg"
	"github.com/caresphere/caresphere/tenants"
)

// recordTimeout bounds finding out and writing down how a submission ended. It
// runs on when the client has gone: the record is owed all the same.
const recordTimeout = 4 * time.Second

// account brings an identifier to the spelling under which tries are counted;
// Kratos ignores case and surrounding space too.
func account(identifier string) string { return strings.ToLower(strings.TrimSpace(identifier)) }

// record writes how a submission ended. When that fails, a session that began
// with it is ended again, and its answer is withheld.
func (x *exchange) record(a answer) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(x.ctx), recordTimeout)
	defer cancel()
	outer := x.ctx
	x.ctx = ctx
	defer func() { x.ctx = outer }()
	var err error
	switch x.body.flow {
	case login:
		err = x.recordLogin(a)
	case recovery:
		err = x.recordRecovery(a)
	case settings:
		err = x.recordSettings(a)
	default:
		err = x.recordVerification(a)
	}
	if err == nil {
		return nil
	}
	if s, e := x.begun(a); e == nil && s != nil {
		err = errors.Join(err, x.gate.cfg.IDs.EndSession(ctx, s.ID))
	}
	return tenants.WrapError(tenants.KindUnavailable, "not available at the moment", err)
}

// begun returns the session that an answer hands out, or nil.
func (x *exchange) begun(a answer) (*identity.Session, error) {
	var cred identity.Credential
	for _, k := range a.cookies {
		if k.Name == x.gate.cfg.Realm.CookieName() && k.Value != "" && k.MaxAge >= 0 {
			cred.Cookie = k.Name + "=" + k.Value
		}
	}
	if t := tokenIn(a); t != "" {
		cred = identity.Credential{Token: t}
	}
	if cred.IsZero() {
		return nil, nil
	}
	s, err := x.gate.cfg.IDs.Whoami(x.ctx, cred)
	if err != nil {
		return nil, err
	}
	return &s, nil
}

// tokenIn finds the session token in Kratos' answer to a program: of a login, or
// of a recovery among what to continue with.
func tokenIn(a answer) string {
	if a.status != http.StatusOK || !strings.HasPrefix(a.header.Get("Content-Type"), "application/json") {
		return ""
	}
	var d struct {
		SessionToken string `json:"session_token"`
		ContinueWith []struct {
			Token string `json:"ory_session_token"`
		} `json:"continue_with"`
	}
	if json.Unmarshal(a.body, &d) != nil {
		return ""
	}
	for _, c := range d.ContinueWith {
		if d.SessionToken == "" {
			d.SessionToken = c.Token
		}
	}
	return d.SessionToken
}

// tokenBody is what Kratos' sign-out of a program takes.
func tokenBody(token string) []byte {
	b, _ := json.Marshal(map[string]string{"session_token": token}) // strings always encode
	return b
}

func (x *exchange) recordLogin(a answer) error {
	second := x.body.method != "password"
	action := "session.sign_in"
	if second {
		action = "session.second_factor"
	}
	ok, err := x.loggedIn(a, second)
	if err != nil {
		return err
	}
	if !ok {
		return x.insert(x.event(action, audit.OutcomeDenied))
	}
	if err := x.insert(x.event(action, audit.OutcomeOK)); err != nil {
		return err
	}
	c := x.gate.cfg.Counter
	if second {
		return c.Clear(x.ctx, x.rules().SecondFactor, x.who.IdentityID.String())
	}
	return c.Clear(x.ctx, x.rules().SignInAccount, account(x.body.values["identifier"]))
}

// loggedIn tells whether the login succeeded, by the session itself: by the one
// handed out, or by the second factor that it has now and had not before.
func (x *exchange) loggedIn(a answer, second bool) (bool, error) {
	s, err := x.begun(a)
	if err != nil {
		return false, err
	}
	if s == nil {
		if !second {
			return false, nil
		}
		now, err := x.gate.cfg.IDs.Whoami(x.ctx, x.cred)
		if err != nil {
			return false, err
		}
		s = &now
	}
	if second && (!s.SecondFactor || !s.SecondFactorAt.After(x.who.SecondFactorAt)) {
		return false, nil
	}
	x.who = s
	return true, nil
}

func (x *exchange) recordRecovery(a answer) error {
	if x.body.values["email"] != "" {
		return x.insert(x.event("account.recovery_requested", audit.OutcomeOK))
	}
	s, err := x.begun(a)
	if err != nil {
		return err
	}
	if s == nil {
		return x.insert(x.event("account.recovery", audit.OutcomeDenied))
	}
	x.who = s
	if err := x.insert(x.event("account.recovery", audit.OutcomeOK)); err != nil {
		return err
	}
	return x.gate.cfg.Recovered(x.ctx, *s, x.info)
}

// recordVerification writes that a code was asked for, or whether one was right.
func (x *exchange) recordVerification(a answer) error {
	if x.body.values["email"] != "" {
		return x.insert(x.event("account.verification_requested", audit.OutcomeOK))
	}
	passed, err := x.passed(a)
	if err != nil {
		return err
	}
	outcome := audit.OutcomeDenied
	if passed {
		outcome = audit.OutcomeOK
	}
	return x.insert(x.event("account.verification", outcome))
}

// passed tells whether a verification's code was right, by the flow's state. A program
// is told it; a browser is led on, to another flow if this one was over already.
func (x *exchange) passed(a answer) (bool, error) {
	const passed = "passed_challenge"
	switch a.status {
	case http.StatusOK:
		var d struct {
			State string `json:"state"`
		}
		return json.Unmarshal(a.body, &d) == nil && d.State == passed, nil
	case http.StatusSeeOther:
		to, err := url.Parse(a.header.Get("Location"))
		if err != nil || to.Query().Get("flow") != x.body.flowID {
			return false, nil
		}
		f, err := x.gate.cfg.IDs.Flow(x.ctx, identity.FlowVerification, x.body.flowID, x.cred.Cookie)
		if tenants.IsKind(err, tenants.KindNotFound) {
			return false, nil
		}
		return f.State == passed, err
	}
	return false, nil
}

// settingsActions name what a settings submission of a method does.
var settingsActions = map[string]string{
	"password":      "account.password_set",
	"totp":          "account.second_factor_enrolled",
	"webauthn":      "account.security_key_enrolled",
	"lookup_secret": "account.recovery_codes_changed",
}

func (x *exchange) recordSettings(a answer) error {
	outcome := audit.OutcomeDenied
	ok, err := x.changed(a)
	if err != nil {
		return err
	}
	if ok {
		outcome = audit.OutcomeOK
	}
	if err := x.insert(x.event(settingsActions[x.body.method], outcome)); err != nil {
		return err
	}
	if ok && x.body.method == "totp" {
		return x.gate.cfg.Counter.Clear(x.ctx, x.rules().SecondFactor, x.who.IdentityID.String())
	}
	return nil
}

// changed tells whether a settings submission took effect: a program is told the
// flow's state, a browser is led on and the flow is asked.
func (x *exchange) changed(a answer) (bool, error) {
	switch {
	case a.status == http.StatusOK:
		var d struct {
			State string `json:"state"`
		}
		return json.Unmarshal(a.body, &d) == nil && d.State == "success", nil
	case x.body.method == "totp":
		now, err := x.gate.cfg.IDs.Factors(x.ctx, x.who.IdentityID)
		return now.TOTP && !x.factors.TOTP, err
	case a.status == http.StatusSeeOther:
		f, err := x.gate.cfg.IDs.Flow(x.ctx, identity.FlowSettings, x.body.flowID, x.cred.Cookie)
		if tenants.IsKind(err, tenants.KindNotFound) {
			return false, nil
		}
		return f.State == "success", err
	}
	return false, nil
}

// recordRefusal writes that a guard refused. Wrong input is not worth a record;
// a code presented again is.
func (x *exchange) recordRefusal(refusal error) error {
	kind := tenants.KindOf(refusal)
	var reason string
	switch {
	case kind == tenants.KindRateLimited, kind == tenants.KindOnboarding, kind == tenants.KindSecondFactor:
		reason = string(kind)
	case kind == tenants.KindInvalid && x.body.method == "totp":
		reason = "code_used_before"
	default:
		return nil
	}
	action := map[flowName]string{login: "session.sign_in", recovery: "account.recovery", verification: "account.verification"}[x.body.flow]
	if x.body.flow == settings {
		action = settingsActions[x.body.method]
	} else if x.body.flow == login && x.body.method != "password" {
		action = "session.second_factor"
	}
	ev := x.event(action, audit.OutcomeDenied)
	ev.Detail["reason"] = reason
	if err := x.insert(ev); err != nil {
		return tenants.WrapError(tenants.KindUnavailable, "not available at the moment", err)
	}
	return nil
}

// event describes what happened to whom; insert completes it with the account.
func (x *exchange) event(action string, outcome audit.Outcome) audit.Event {
	ev := audit.Event{Action: action, RecordType: "account", Outcome: outcome, Detail: map[string]string{"realm": string(x.gate.cfg.Realm)}}
	if x.body.method != "" {
		ev.Detail["method"] = x.body.method
	}
	return ev
}

// insert writes the entry: the actor is the session's holder, or nobody known,
// with the account that was spoken of.
func (x *exchange) insert(ev audit.Event) error {
	actor := session.Anonymous(x.info)
	err := pg.InTx(x.ctx, x.gate.cfg.Pool, func(tx pgx.Tx) error {
		switch {
		case x.who != nil:
			actor.Kind, actor.ID, actor.SessionID, actor.AuthenticatedAt = tenants.ActorMember, x.who.IdentityID, x.who.ID, x.who.SecondFactorAt
			if x.gate.cfg.Realm == session.Operator {
				actor.Kind = tenants.ActorOperator
			}
			ev.RecordID, ev.OrganizationID = x.who.IdentityID.String(), x.who.OrganizationID
		default:
			if err := x.name(tx, &ev); err != nil {
				return err
			}
		}
		return audit.Insert(x.ctx, tx, actor, ev)
	})
	if err != nil {
		return fmt.Errorf("recording %s: %w", ev.Action, err)
	}
	return nil
}

// name finds the account that an anonymous request speaks of. An address without
// one is kept as a keyed hash: it may be a mistyped password.
func (x *exchange) name(tx pgx.Tx, ev *audit.Event) error {
	address := account(x.body.values["identifier"] + x.body.values["email"])
	if address == "" {
		return nil
	}
	if x.gate.cfg.Realm == session.Customer {
		a, err := store.New(tx).AccountByEmail(x.ctx, address)
		if err == nil {
			ev.RecordID, ev.OrganizationID = a.IdentityID.String(), a.OrganizationID
			return nil
		}
		if !errors.Is(err, pgx.ErrNoRows) {
			return err
		}
	}
	ev.Detail["address"] = x.gate.cfg.Counter.Fingerprint(address)
	return nil
}
