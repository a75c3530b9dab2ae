package web

import (
	"net/http"

	"github.com/gofiber/fiber/v2"

	"github.com/caresphere/caresphere/controlplane/session"
	"github.com/caresphere/caresphere/internal/identity"
)

// setupPage is the account's way of signing in: during onboarding one step of it,
// afterwards recovery codes and the password.
type setupPage struct {
	Step session.Step
	// Form is the step's.
	Form Form
	// QR and Secret are the authenticator's, while one is enrolled.
	QR, Secret string
	// Codes are shown once, with Confirm to say that they are kept; Generate makes them.
	Codes             []identity.Secret
	Confirm, Generate *Form
	HasCodes          bool
	Password          *Form
	Saved             bool
}

// setup shows the settings flow.
func (s *Site) setup(c *fiber.Ctx) error {
	cur, _ := Current(c)
	if cur.Step == session.VerifyEmail {
		return see(c, "/verification")
	}
	f, ok, err := s.flow(c, identity.FlowSettings, beginSettings)
	if err != nil || !ok {
		return err
	}
	if f.State == "success" && cur.Step != "" {
		return see(c, beginSettings)
	}
	return s.showSetup(c, http.StatusOK, f, nil)
}

func (s *Site) showSetup(c *fiber.Ctx, status int, f identity.Flow, refusal error) error {
	cur, _ := Current(c)
	page := Page{Section: "/account"}
	var data setupPage
	owner := s.Progress != nil && cur.Account != nil && cur.Account.Owner
	data.Step = cur.Step
	switch cur.Step {
	case session.SetPassword:
		page.Title, page.Steps = "Choose a password", Steps(cur.Step, owner)
		page.Lead = "A few unrelated words are easy to remember and hard to guess. A password manager does even better."
		data.Form = flowForm(f, "settings", "password", "Save the password", Field{Name: "password", Label: "New password", Type: "password",
			Hint: "At least 12 characters, not your e-mail address, and used nowhere else.", Autocomplete: "new-password", Max: 256, Required: true, Autofocus: true})
	case session.EnrollTOTP:
		page.Title, page.Steps = "Connect an authenticator app", Steps(cur.Step, owner)
		page.Lead = "Everybody here signs in with a second factor: an app on your phone that shows a new code every 30 seconds."
		qr, _ := f.Node("totp_qr")
		secret, _ := f.Node("totp_secret_key")
		data.QR, data.Secret = qr.Source, secret.Text
		data.Form = flowForm(f, "settings", "totp", "Connect", Field{Name: "totp_code", Label: "Code from the app", Hint: "The 6 digits that the app shows now.",
			Autocomplete: "one-time-code", InputMode: "numeric", Max: 8, Required: true, Autofocus: true})
		data.Form.Fields[0].Value = ""
	default:
		page.Title = "How you sign in"
		s.fillSettled(&data, f)
		if f.State == "success" {
			page.Notice = &Notice{"success", "Saved."}
		}
	}
	if refusal != nil {
		if _, err := data.Form.Fail(refusal); err != nil {
			return err
		}
		if data.Form.Action == "" {
			page.Notice = &Notice{"error", data.Form.Problem}
		}
	}
	page.Data = data
	return s.Render(c, status, "setup", page)
}

// fillSettled fills the page of an account that is set up.
func (s *Site) fillSettled(data *setupPage, f identity.Flow) {
	codes, _ := f.Node("lookup_secret_codes")
	data.Codes = codes.Secrets
	flag := func(name, submit string) *Form {
		form := flowForm(f, "settings", "lookup_secret", submit)
		form.Problem = ""
		form.Hidden = append(form.Hidden, Field{Name: name, Value: "true"})
		return &form
	}
	if f.Has("lookup_secret", "lookup_secret_confirm") {
		data.Confirm = flag("lookup_secret_confirm", "I have saved them")
	}
	if f.Has("lookup_secret", "lookup_secret_regenerate") {
		data.Generate = flag("lookup_secret_regenerate", "Make new recovery codes")
	}
	if f.Has("lookup_secret", "lookup_secret_reveal") {
		data.HasCodes = true
		if data.Generate == nil {
			data.Generate = flag("lookup_secret_regenerate", "Make new recovery codes")
		}
	}
	p := flowForm(f, "settings", "password", "Change the password", Field{Name: "password", Label: "New password", Type: "password",
		Hint: "At least 12 characters.", Autocomplete: "new-password", Max: 256, Required: true})
	data.Password = &p
	data.Saved = f.State == "success"
}
