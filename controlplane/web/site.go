package web

import (
	"context"
	"net/http"

	"github.com/gofiber/fiber/v2"

	"github.com/caresphere/caresphere/controlplane/identitygate"
	"github.com/caresphere/caresphere/controlplane/members"
	"github.com/caresphere/caresphere/controlplane/session"
	"github.com/caresphere/caresphere/internal/httpx"
	"github.com/caresphere/caresphere/internal/identity"
	"github.com/caresphere/caresphere/tenants"
)

// Flows is what pages ask of a realm's Kratos.
type Flows interface {
	Flow(ctx context.Context, kind identity.FlowKind, id, cookie string) (identity.Flow, error)
	LogoutToken(ctx context.Context, cookie string) (string, error)
	ErrorText(ctx context.Context, id string) string
	Whoami(ctx context.Context, cred identity.Credential) (identity.Session, error)
}

// Progresses tells what is next for a customer; see members.Service.
type Progresses interface {
	Progress(ctx context.Context, cur session.Current) (members.Progress, error)
}

// Site is the pages of one origin.
type Site struct {
	*Renderer
	Gate  *session.Gate
	Flows Flows
	// Progress is nil on the operators' origin.
	Progress Progresses
	// Home is where a signed-in person belongs when nothing else is next.
	Home string
}

// Current returns the session that SignedIn or Maybe found.
func Current(c *fiber.Ctx) (session.Current, bool) { return session.From(c.UserContext()) }

// open looks for a session and keeps it in the request's context.
func (s *Site) open(c *fiber.Ctx) (session.Current, error) {
	cred, err := identitygate.Credential(c, s.Gate.Realm())
	if err != nil {
		return session.Current{}, err
	}
	cur, err := s.Gate.Open(c.UserContext(), cred, Info(c))
	if err != nil {
		return session.Current{}, err
	}
	c.SetUserContext(session.With(c.UserContext(), cur))
	return cur, nil
}

// Info returns what is known of a request besides its session.
func Info(c *fiber.Ctx) session.Info {
	var i session.Info
	i.IP, i.Device, i.RequestID = httpx.RequestInfo(c.UserContext())
	return i
}

// SignedIn admits a signed-in person to a page. With full it demands the second
// factor and a finished onboarding, and leads whoever lacks them to the page where
// they get it; a form that was posted meanwhile is refused.
func (s *Site) SignedIn(full bool) fiber.Handler {
	return func(c *fiber.Ctx) error {
		cur, err := s.open(c)
		if err == nil && full {
			err = cur.Full()
		}
		if err == nil {
			return c.Next()
		}
		if c.Method() != fiber.MethodGet {
			return err
		}
		switch tenants.KindOf(err) {
		case tenants.KindUnauthenticated, tenants.KindSecondFactor:
			return see(c, "/signin")
		case tenants.KindOnboarding:
			return see(c, "/account/setup")
		}
		return err
	}
}

// Maybe finds a session for a page that everybody may see. Trouble with finding
// it shows the page as for a stranger.
func (s *Site) Maybe(c *fiber.Ctx) error {
	_, _ = s.open(c)
	return c.Next()
}

// see leads the browser on with a GET.
func see(c *fiber.Ctx, to string) error { return c.Redirect(to, http.StatusSeeOther) }

// next leads a signed-in person to whatever is next for them. It returns false if
// they are not signed in.
func (s *Site) next(c *fiber.Ctx) (bool, error) {
	cur, err := s.open(c)
	switch {
	case tenants.IsKind(err, tenants.KindUnauthenticated):
		return false, nil
	case tenants.IsKind(err, tenants.KindSecondFactor):
		return true, see(c, beginSecondFactor)
	case err != nil:
		return true, err
	case cur.Step == session.VerifyEmail:
		return true, see(c, "/verification")
	case cur.Step != "":
		return true, see(c, "/account/setup")
	case !cur.SecondFactor:
		return true, see(c, beginSecondFactor)
	case s.Progress == nil:
		return true, see(c, s.Home)
	}
	p, err := s.Progress.Progress(c.UserContext(), cur)
	if err != nil {
		return true, err
	}
	switch p.Next {
	case session.SignBAA, session.AwaitCountersignature:
		if cur.Account.Owner {
			return true, see(c, "/baa")
		}
	case session.Provisioning:
		return true, see(c, "/provisioning")
	}
	return true, see(c, s.Home)
}
