package web

import (
	"html/template"
	"net/http"

	"github.com/gofiber/fiber/v2"

	"github.com/caresphere/caresphere/controlplane/baa"
	"github.com/caresphere/caresphere/tenants"
)

func (h operations) agreement(c *fiber.Ctx) error {
	id, err := pathID(c)
	if err != nil {
		return err
	}
	return h.showAgreement(c, http.StatusOK, id, nil, nil)
}

func (h operations) countersign(c *fiber.Ctx) error {
	id, err := pathID(c)
	if err != nil {
		return err
	}
	d := baa.Declaration{Name: c.FormValue("name"), Title: c.FormValue("title"), Consent: c.FormValue("consent") == "true",
		Intent: c.FormValue("intent") == "true", DocumentSHA256: c.FormValue("document_sha256")}
	a, err := h.baa.Countersign(c.UserContext(), person(c), id, d)
	if err == nil {
		return see(c, "/organizations/"+a.OrganizationID.String())
	}
	return h.showAgreement(c, 0, id, err, func(p *agreementPage) *Form {
		_, operator := h.baa.Statements()
		p.Sign = signForm(*p.Agreement, "/baas/"+id.String()+"/countersign", operator, d, false)
		return p.Sign
	})
}

func (h operations) terminate(c *fiber.Ctx) error {
	id, err := pathID(c)
	if err != nil {
		return err
	}
	reason, typed := c.FormValue("terminate_reason"), c.FormValue("confirm")
	slug, err := h.slugOf(c, id)
	if err != nil {
		return err
	}
	if typed != slug {
		err = tenants.Invalid("body.confirm", "must be the organization's short name, as shown")
	} else {
		_, err = h.baa.Terminate(c.UserContext(), person(c), id, reason)
	}
	if err == nil {
		return see(c, "/baas/"+id.String())
	}
	return h.showAgreement(c, 0, id, err, func(p *agreementPage) *Form {
		p.Terminate = terminateForm("/baas/"+id.String()+"/terminate", slug, reason)
		return p.Terminate
	})
}

// slugOf returns the short name of the organization that an agreement is of.
func (h operations) slugOf(c *fiber.Ctx, id tenants.ID) (string, error) {
	a, err := h.baa.Get(c.UserContext(), person(c), id)
	if err != nil {
		return "", err
	}
	o, err := h.fleet.Get(c.UserContext(), person(c).Actor, a.OrganizationID)
	return o.Slug, err
}

// showAgreement renders an agreement with what an operator may do about it.
func (h operations) showAgreement(c *fiber.Ctx, status int, id tenants.ID, cause error, form func(*agreementPage) *Form) error {
	p := person(c)
	a, err := h.baa.Get(c.UserContext(), p, id)
	if err != nil {
		return err
	}
	o, err := h.fleet.Get(c.UserContext(), p.Actor, a.OrganizationID)
	if err != nil {
		return err
	}
	data := agreementPage{Agreement: &a, Place: "/baas/", Organization: o,
		Text: template.HTML(baa.HTML(a.Document, 2))} //nolint:gosec // baa.HTML escapes the text
	page := Page{Title: "Agreement with " + o.LegalName, Section: "/organizations"}
	_, operator := h.baa.Statements()
	if a.State == tenants.BAASigned && a.Current {
		page.Lead = "The customer has signed. Read the agreement in full, then countersign it below."
		data.Sign = signForm(a, "/baas/"+id.String()+"/countersign", operator, baa.Declaration{}, false)
	}
	if a.State == tenants.BAASigned && !a.Current {
		page.Notice = &Notice{"warning", "The template was revised since: the customer has to sign the current text."}
	}
	if a.State == tenants.BAASigned || a.State == tenants.BAAExecuted {
		data.Terminate = terminateForm("/baas/"+id.String()+"/terminate", o.Slug, "")
	}
	if cause != nil {
		switch tenants.KindOf(cause) {
		case tenants.KindInvalid, tenants.KindConflict:
		default:
			return cause
		}
		var unexpected error
		if status, unexpected = form(&data).Fail(cause); unexpected != nil {
			return unexpected
		}
	}
	page.Data = data
	return h.site.Render(c, status, "agreement", page)
}
