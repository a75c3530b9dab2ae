package web

import (
	"net/http"

	"github.com/gofiber/fiber/v2"

	"github.com/caresphere/caresphere/controlplane/identitygate"
	"github.com/caresphere/caresphere/internal/identity"
	"github.com/caresphere/caresphere/tenants"
)

type signInPage struct {
	// Form asks for the password, or for the app's code.
	Form Form
	// Backup asks for a recovery code; nil when the account has none.
	Backup *Form
	Again  bool
}

// signIn shows the two steps of signing in: first the password, then the code.
func (s *Site) signIn(c *fiber.Ctx) error {
	if c.Query("flow") == "" {
		return s.beginSignIn(c)
	}
	f, ok, err := s.flow(c, identity.FlowLogin, beginSignIn)
	if err != nil || !ok {
		return err
	}
	return s.showSignIn(c, http.StatusOK, f, nil)
}

// beginSignIn asks for what is missing: a session, a second factor, or, after a
// long pause, the password again.
func (s *Site) beginSignIn(c *fiber.Ctx) error {
	if done, err := s.next(c); done || err != nil {
		return err
	}
	cred, err := identitygate.Credential(c, s.Gate.Realm())
	if err == nil && cred.Cookie != "" {
		if _, err := s.Flows.Whoami(c.UserContext(), identity.Credential{Cookie: cred.Cookie}); err == nil {
			return see(c, beginAgain)
		}
	}
	return see(c, beginSignIn)
}

func (s *Site) showSignIn(c *fiber.Ctx, status int, f identity.Flow, refusal error) error {
	page := Page{Title: "Sign in", Data: nil}
	var data signInPage
	if f.RequestedAAL == "aal2" {
		page.Title, page.Lead = "Enter your code", "Open the authenticator app on your phone and enter the 6 digits it shows for CareSphere."
		data.Form = flowForm(f, "login", "totp", "Continue", Field{Name: "totp_code", Label: "Code from the app", Autocomplete: "one-time-code",
			InputMode: "numeric", Max: 8, Required: true, Autofocus: true})
		if f.Has("lookup_secret", "lookup_secret") {
			b := flowForm(f, "login", "lookup_secret", "Use a recovery code", Field{Name: "lookup_secret", Label: "Recovery code", Required: true, Max: 64})
			b.Problem = ""
			data.Backup = &b
		}
	} else {
		data.Again = f.Refresh
		if f.Refresh {
			page.Title, page.Lead = "Confirm that it is you", "You were away for a while, or are about to change how you sign in. Enter your password again."
		}
		data.Form = flowForm(f, "login", "password", "Continue",
			Field{Name: "identifier", Label: "E-mail address", Type: "email", Autocomplete: "username", Max: 254, Required: true, Autofocus: true},
			Field{Name: "password", Label: "Password", Type: "password", Autocomplete: "current-password", Max: 256, Required: true})
	}
	if refusal != nil {
		if _, err := data.Form.Fail(refusal); err != nil {
			return err
		}
	}
	page.Data = data
	return s.Render(c, status, "signin", page)
}

// signOut ends the session: it fetches Kratos' token for that and leads the
// browser there, so that Kratos takes its cookie back.
func (s *Site) signOut(c *fiber.Ctx) error {
	cred, err := identitygate.Credential(c, s.Gate.Realm())
	if err != nil {
		return err
	}
	token, err := s.Flows.LogoutToken(c.UserContext(), cred.Cookie)
	if tenants.IsKind(err, tenants.KindUnauthenticated) {
		return see(c, "/")
	}
	if err != nil {
		return err
	}
	return see(c, identitygate.Prefix+"self-service/logout?token="+token)
}
