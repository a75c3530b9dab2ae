package identitygate

import (
	"context"
	"net/http"
	"time"

	"github.com/gofiber/fiber/v2"

	"github.com/caresphere/caresphere/controlplane/attempts"
	"github.com/caresphere/caresphere/controlplane/session"
	"github.com/caresphere/caresphere/internal/identity"
	"github.com/caresphere/caresphere/internal/pause"
	"github.com/caresphere/caresphere/tenants"
)

// exchange is one request on its way through the guards to Kratos and back.
type exchange struct {
	gate    *Gate
	route   route
	ctx     context.Context
	info    session.Info
	cred    identity.Credential
	request request
	body    submission
	// who is the session at the time of the request, where a guard asked.
	who *identity.Session
	// factors are those before a settings submission.
	factors identity.Factors
}

func (x *exchange) run(c *fiber.Ctx) (answer, error) {
	g := x.gate
	switch x.route.action {
	case begin:
		if err := g.cfg.Counter.Take(x.ctx, g.cfg.Rules.FlowInit, x.info.IP); err != nil {
			return answer{}, err
		}
	case submit:
		return x.submit(c)
	case signOut:
		return x.signOut()
	case others:
		return x.otherSessions()
	}
	return g.kratos.do(x.ctx, x.request)
}

// submit parses the body, lets the guards look, forwards what was parsed and
// records how it ended. An answer whose record cannot be written is withheld.
func (x *exchange) submit(c *fiber.Ctx) (answer, error) {
	var err error
	x.body, err = parse(x.route.flow, x.request.query.Get("flow"), c.Get(fiber.HeaderContentType), c.Body())
	if err != nil {
		return answer{}, err
	}
	if err := x.guard(); err != nil {
		if denied := x.recordRefusal(err); denied != nil {
			return answer{}, denied
		}
		return answer{}, err
	}
	if x.request.contentType, x.request.body, err = x.body.encode(); err != nil {
		return answer{}, err
	}
	x.request.json = x.request.json || x.body.json
	began := time.Now()
	a, err := x.forward()
	if err != nil {
		return answer{}, err
	}
	err = x.record(a)
	if x.body.flow == login && x.body.method == "password" && x.who == nil {
		x.hold(began)
	}
	return a, err
}

// forward sends the submission to Kratos; passwords take turns.
func (x *exchange) forward() (answer, error) {
	if x.body.method == "password" {
		release, err := x.gate.turn(x.ctx)
		if err != nil {
			return answer{}, err
		}
		defer release()
	}
	return x.gate.kratos.do(x.ctx, x.request)
}

// failureFloor is the least time that a refused password takes. Kratos hashes only
// for addresses that have an account, and for others waits for a time that one can
// tell apart, often none.
const failureFloor = 1100 * time.Millisecond

// hold waits until the floor has passed, or the client is gone.
func (x *exchange) hold(began time.Time) {
	_ = pause.For(x.ctx, failureFloor-time.Since(began))
}

// guard applies what must hold before Kratos sees the submission.
func (x *exchange) guard() error {
	switch x.body.flow {
	case login:
		if x.body.method == "password" {
			return x.take(x.rules().SignInIP, x.info.IP, x.rules().SignInAccount, account(x.body.values["identifier"]))
		}
		if err := x.identify(); err != nil {
			return err
		}
		return x.guardSecondFactor()
	case settings:
		return x.guardSettings()
	case recovery:
		if email := x.body.values["email"]; email != "" {
			return x.take(x.rules().RecoveryIP, x.info.IP, x.rules().RecoveryEmail, account(email))
		}
		return x.take(x.rules().RecoveryIP, x.info.IP, x.rules().RecoveryFlow, x.body.flowID)
	default:
		if email := x.body.values["email"]; email != "" {
			return x.take(x.rules().RecoveryIP, x.info.IP, x.rules().VerificationEmail, account(email))
		}
		return x.take(x.rules().RecoveryIP, x.info.IP, x.rules().RecoveryFlow, x.body.flowID)
	}
}

func (x *exchange) rules() attempts.Rules { return x.gate.cfg.Rules }

// take counts a try by its address and by its subject.
func (x *exchange) take(byIP attempts.Rule, ip string, by attempts.Rule, subject string) error {
	if err := x.gate.cfg.Counter.Take(x.ctx, byIP, ip); err != nil {
		return err
	}
	return x.gate.cfg.Counter.Take(x.ctx, by, subject)
}

// identify asks whose session it is, with the very credential that Kratos will be
// sent: the guards and Kratos cannot see two different people.
func (x *exchange) identify() error {
	if x.who != nil {
		return nil
	}
	if !hasSession(x.cred, x.gate.cfg.Realm) {
		return tenants.NewError(tenants.KindUnauthenticated, "sign in first")
	}
	s, err := x.gate.cfg.IDs.Whoami(x.ctx, x.cred)
	if err != nil {
		return err
	}
	x.who = &s
	return nil
}

// guardSecondFactor limits tries and lets a one-time code through once.
func (x *exchange) guardSecondFactor() error {
	if err := x.gate.cfg.Counter.Take(x.ctx, x.rules().SecondFactor, x.who.IdentityID.String()); err != nil {
		return err
	}
	if x.body.method != "totp" {
		return nil
	}
	first, err := x.gate.cfg.Counter.UseCode(x.ctx, x.who.IdentityID, x.body.values["totp_code"])
	if err != nil {
		return err
	}
	if !first {
		return tenants.Invalid("body.totp_code", "was used already: wait for the app's next code")
	}
	return nil
}

// guardSettings keeps the order of onboarding: a password before anything that
// makes the session stronger.
func (x *exchange) guardSettings() error {
	if err := x.identify(); err != nil {
		return err
	}
	var err error
	if x.factors, err = x.gate.cfg.IDs.Factors(x.ctx, x.who.IdentityID); err != nil {
		return err
	}
	if x.body.method != "password" && !x.factors.Password {
		e := tenants.NewError(tenants.KindOnboarding, "choose a password first")
		e.Fields = []tenants.FieldError{{Field: "next", Message: string(session.SetPassword)}}
		return e
	}
	// Whoever has a second factor changes nothing without it; Kratos holds this
	// too, by settings.required_aal.
	if x.factors.SecondFactor() && !x.who.SecondFactor {
		return tenants.NewError(tenants.KindSecondFactor, "sign in with your second factor")
	}
	if x.body.method == "totp" {
		return x.guardSecondFactor()
	}
	return nil
}

// signOut ends the session, and first finds out whose it was.
func (x *exchange) signOut() (answer, error) {
	if x.request.method == http.MethodDelete {
		return x.nativeSignOut()
	}
	_ = x.identify() // a session that is over already is signed out all the same
	a, err := x.gate.kratos.do(x.ctx, x.request)
	if err != nil || x.who == nil || a.status >= 400 {
		return a, err
	}
	return a, x.insert(x.event("session.sign_out", "ok"))
}

// nativeSignOut takes the token from the header, where every other request has
// it, and hands it to Kratos in the body, where this one wants it.
func (x *exchange) nativeSignOut() (answer, error) {
	if x.cred.Token == "" {
		return answer{}, tenants.NewError(tenants.KindUnauthenticated, "show the session's token in X-Session-Token")
	}
	if err := x.identify(); err != nil {
		return answer{}, err
	}
	x.request.contentType = "application/json"
	x.request.body = tokenBody(x.cred.Token)
	a, err := x.gate.kratos.do(x.ctx, x.request)
	if err != nil || a.status >= 400 {
		return a, err
	}
	return a, x.insert(x.event("session.sign_out", "ok"))
}
