package web

import (
	"net/http"

	"github.com/gofiber/fiber/v2"

	"github.com/caresphere/caresphere/controlplane/session"
	"github.com/caresphere/caresphere/internal/identity"
	"github.com/caresphere/caresphere/tenants"
)

type codePage struct {
	Form Form
	// Sent is true once a code was mailed; Resend begins anew.
	Sent   bool
	Resend string
}

func codeField(label, hint string) Field {
	return Field{Name: "code", Label: label, Hint: hint, Autocomplete: "one-time-code", InputMode: "numeric", Max: 16, Required: true, Autofocus: true}
}

func emailField(hint string) Field {
	return Field{Name: "email", Label: "E-mail address", Hint: hint, Type: "email", Autocomplete: "username", Max: 254, Required: true, Autofocus: true}
}

// welcome is where an invitation's link leads: it takes the mailed code.
func (s *Site) welcome(c *fiber.Ctx) error {
	f, err := s.fetch(c, identity.FlowRecovery, c.Query("flow"))
	switch tenants.KindOf(err) {
	case "":
		return s.showWelcome(c, http.StatusOK, f, nil)
	case tenants.KindNotFound, tenants.KindUnauthenticated:
		return s.Render(c, http.StatusOK, "stale", Page{Title: "This link is no longer good",
			Lead: "An invitation's link works once and for two days. Your account is there all the same."})
	}
	return err
}

func (s *Site) showWelcome(c *fiber.Ctx, status int, f identity.Flow, refusal error) error {
	data := codePage{Form: flowForm(f, "recovery", "code", "Confirm", codeField("Code from the letter", "Six digits, in the letter that brought you here.")), Sent: true}
	data.Form.Fields[0].Value = ""
	if refusal != nil {
		if _, err := data.Form.Fail(refusal); err != nil {
			return err
		}
	}
	return s.Render(c, status, "code", Page{Title: "Welcome to CareSphere", Steps: Steps(session.VerifyEmail, s.Progress != nil),
		Lead: "Enter the code from your letter to confirm that the address is yours. Then choose a password and connect an authenticator app.", Data: data})
}

// recovery mails a code to whoever lost the password or the invitation, and takes it.
func (s *Site) recovery(c *fiber.Ctx) error {
	f, ok, err := s.flow(c, identity.FlowRecovery, beginRecovery)
	if err != nil || !ok {
		return err
	}
	return s.showRecovery(c, http.StatusOK, f, nil)
}

func (s *Site) showRecovery(c *fiber.Ctx, status int, f identity.Flow, refusal error) error {
	page := Page{Title: "Trouble signing in?", Lead: "We mail you a code with which you get back in and choose a new password. Your second factor is asked for as well."}
	data := codePage{Resend: beginRecovery}
	if f.State == "choose_method" {
		data.Form = flowForm(f, "recovery", "code", "Send me a code", emailField(""))
	} else {
		page.Title, page.Lead, data.Sent = "Enter the code", "If the address has an account, a letter with a code is on its way to it.", true
		data.Form = flowForm(f, "recovery", "code", "Continue", codeField("Code from the letter", ""))
		data.Form.Fields[0].Value = ""
	}
	return s.showCode(c, status, page, data, refusal)
}

// verification confirms the e-mail address of an account that never used a mailed code.
func (s *Site) verification(c *fiber.Ctx) error {
	f, ok, err := s.flow(c, identity.FlowVerification, beginVerification)
	if err != nil || !ok {
		return err
	}
	return s.showVerification(c, http.StatusOK, f, nil)
}

func (s *Site) showVerification(c *fiber.Ctx, status int, f identity.Flow, refusal error) error {
	page := Page{Title: "Confirm your e-mail address", Lead: "We mail a code to your address."}
	data := codePage{Resend: beginVerification}
	switch f.State {
	case "choose_method":
		data.Form = flowForm(f, "verification", "code", "Send me a code", emailField(""))
	case "passed_challenge":
		return see(c, "/")
	default:
		page.Title, page.Lead, data.Sent = "Enter the code", "A letter with a code is on its way to you.", true
		data.Form = flowForm(f, "verification", "code", "Continue", codeField("Code from the letter", ""))
		data.Form.Fields[0].Value = ""
	}
	return s.showCode(c, status, page, data, refusal)
}

func (s *Site) showCode(c *fiber.Ctx, status int, page Page, data codePage, refusal error) error {
	if refusal != nil {
		if _, err := data.Form.Fail(refusal); err != nil {
			return err
		}
	}
	page.Data = data
	return s.Render(c, status, "code", page)
}
