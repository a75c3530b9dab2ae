package web

import (
	"context"
	"net/http"

	"github.com/gofiber/fiber/v2"

	"github.com/caresphere/caresphere/controlplane/idempotency"
	"github.com/caresphere/caresphere/controlplane/session"
	"github.com/caresphere/caresphere/controlplane/signup"
	"github.com/caresphere/caresphere/tenants"
)

// SignUps is what the sign-up page calls; see signup.Service.
type SignUps interface {
	SignUp(ctx context.Context, r signup.Request, idempotencyKey string, info session.Info) (signup.Result, error)
}

// signUpForm asks for an organization and its first owner. The key makes a form
// sent twice one sign-up.
func signUpForm(r signup.Request, key string) Form {
	return Form{
		Action: "/signup", Submit: "Sign up", Hidden: []Field{{Name: "key", Value: key}},
		Fields: []Field{
			{Name: "legal_name", Path: signup.FieldLegalName, Label: "Organization's legal name", Value: r.LegalName, Autocomplete: "organization",
				Hint: "As it will stand in the business associate agreement.", Max: 200, Required: true},
			{Name: "slug", Path: signup.FieldSlug, Label: "Short name", Value: r.Slug, Max: 39,
				Hint: "For your web address: lower case letters, digits and dashes. We propose one if you leave it empty."},
			{Name: "care_setting", Path: signup.FieldCareSetting, Label: "Kind of care", Type: "radio", Value: string(r.CareSetting), Required: true,
				Hint: "Decides which roles your members can have.",
				Options: []Option{
					{string(tenants.Residential), "Residential", "Assisted living, nursing or group homes: people live here."},
					{string(tenants.Clinic), "Clinic", "Practices and outpatient care: people come by appointment."},
				}},
			{Name: "owner_name", Path: signup.FieldOwnerName, Label: "Your name", Value: r.OwnerName, Autocomplete: "name", Max: 100, Required: true},
			{Name: "owner_email", Path: signup.FieldOwnerEmail, Label: "Your work e-mail address", Type: "email", Value: r.Email, Autocomplete: "email", Max: 254, Required: true,
				Hint: "You become the first owner. We mail you a code to confirm the address."},
		},
	}
}

type formPage struct{ Form Form }

func (s *Site) signUpPage(c *fiber.Ctx) error {
	return s.showSignUp(c, http.StatusOK, signUpForm(signup.Request{}, tenants.NewID().String()))
}

func (s *Site) showSignUp(c *fiber.Ctx, status int, form Form) error {
	return s.Render(c, status, "signup", Page{Title: "Sign up your organization",
		Lead: "It takes a few minutes. Nothing clinical can be stored before the business associate agreement is signed by both sides.", Data: formPage{form}})
}

type mailedPage struct{ Email string }

// takeSignUp handles the posted form.
func takeSignUp(s *Site, ups SignUps) fiber.Handler {
	return func(c *fiber.Ctx) error {
		r := signup.Request{LegalName: c.FormValue("legal_name"), Slug: c.FormValue("slug"), CareSetting: tenants.CareSetting(c.FormValue("care_setting")),
			OwnerName: c.FormValue("owner_name"), Email: c.FormValue("owner_email")}
		key := c.FormValue("key")
		if idempotency.Check(key) != nil {
			key = ""
		}
		_, err := ups.SignUp(c.UserContext(), r, key, Info(c))
		if err != nil {
			fresh := tenants.NewID().String()
			form := signUpForm(r, fresh)
			status, unexpected := form.Fail(err)
			if unexpected != nil {
				return unexpected
			}
			return s.showSignUp(c, status, form)
		}
		return s.Render(c, http.StatusAccepted, "mailed", Page{Title: "Check your mail",
			Lead: "We have sent a letter with a link and a code.", Data: mailedPage{r.Email}})
	}
}
