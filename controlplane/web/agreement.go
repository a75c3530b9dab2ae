package web

import (
	"html/template"
	"net/http"
	"time"

	"github.com/gofiber/fiber/v2"

	"github.com/caresphere/caresphere/controlplane/api"
	"github.com/caresphere/caresphere/controlplane/baa"
	"github.com/caresphere/caresphere/controlplane/fleet"
	"github.com/caresphere/caresphere/controlplane/session"
	"github.com/caresphere/caresphere/tenants"
)

// agreementRefresh is how often a page looks whether the other side has signed.
const agreementRefresh = 5 * time.Second

type agreementPage struct {
	Agreement *baa.Agreement
	// Text is the document; baa.HTML escapes every character of it.
	Text template.HTML
	// Sign, Terminate, Draft are nil where they are not to be done.
	Sign, Terminate, Draft *Form
	// History are the other agreements of the organization.
	History []baa.Agreement
	// Place is where agreements of this origin are: "/baa/" or "/baas/".
	Place        string
	Organization fleet.Organization
}

// agreements are the pages of customers' agreements.
type agreements struct {
	site  *Site
	baa   api.Agreements
	fleet api.Fleet
}

// MountAgreements serves /baa and what is below it.
func (s *Site) MountAgreements(app fiber.Router, a api.Agreements, f api.Fleet) {
	h := agreements{s, a, f}
	full := s.SignedIn(true)
	app.Get("/baa", full, h.current)
	app.Post("/baa", full, h.draft)
	app.Get("/baa/:id", full, h.one)
	app.Post("/baa/:id/sign", full, h.sign)
	app.Post("/baa/:id/terminate", full, h.terminate)
}

// pathID reads the id in a page's path; anything else than an id is not there.
func pathID(c *fiber.Ctx) (tenants.ID, error) {
	id, err := tenants.ParseID(c.Params("id"))
	if err != nil {
		return id, tenants.NotFound()
	}
	return id, nil
}

func person(c *fiber.Ctx) baa.Person {
	cur, _ := Current(c)
	return api.Person(cur)
}

func (h agreements) current(c *fiber.Ctx) error {
	a, err := h.baa.Current(c.UserContext(), person(c))
	switch {
	case tenants.IsKind(err, tenants.KindNotFound):
		return h.show(c, http.StatusOK, nil, nil, nil)
	case err != nil:
		return err
	}
	return h.show(c, http.StatusOK, &a, nil, nil)
}

func (h agreements) one(c *fiber.Ctx) error {
	id, err := pathID(c)
	if err != nil {
		return err
	}
	a, err := h.baa.Get(c.UserContext(), person(c), id)
	if err != nil {
		return err
	}
	return h.show(c, http.StatusOK, &a, nil, nil)
}

func (h agreements) draft(c *fiber.Ctx) error {
	if _, err := h.baa.Draft(c.UserContext(), person(c), 0); err != nil {
		return err
	}
	return see(c, "/baa")
}

func (h agreements) sign(c *fiber.Ctx) error {
	id, err := pathID(c)
	if err != nil {
		return err
	}
	d := baa.Declaration{Name: c.FormValue("name"), Title: c.FormValue("title"), Authority: c.FormValue("authority"),
		Consent: c.FormValue("consent") == "true", Intent: c.FormValue("intent") == "true", DocumentSHA256: c.FormValue("document_sha256")}
	_, err = h.baa.Sign(c.UserContext(), person(c), id, d)
	if err == nil {
		return see(c, "/baa")
	}
	return h.failed(c, id, err, func(p *agreementPage) *Form {
		customer, _ := h.baa.Statements()
		p.Sign = signForm(*p.Agreement, "/baa/"+id.String()+"/sign", customer, d, true)
		return p.Sign
	})
}

func (h agreements) terminate(c *fiber.Ctx) error {
	id, err := pathID(c)
	if err != nil {
		return err
	}
	reason, typed := c.FormValue("terminate_reason"), c.FormValue("confirm")
	org, err := h.organization(c)
	if err != nil {
		return err
	}
	if typed != org.Slug {
		err = tenants.Invalid("body.confirm", "must be the organization's short name, as shown")
	} else {
		_, err = h.baa.Terminate(c.UserContext(), person(c), id, reason)
	}
	if err == nil {
		return see(c, "/baa/"+id.String())
	}
	return h.failed(c, id, err, func(p *agreementPage) *Form {
		p.Terminate = terminateForm("/baa/"+id.String()+"/terminate", org.Slug, reason)
		return p.Terminate
	})
}

// failed shows the agreement again with what was typed and what is wrong with it.
// An agreement that the caller may not see stays an error.
func (h agreements) failed(c *fiber.Ctx, id tenants.ID, cause error, form func(*agreementPage) *Form) error {
	switch tenants.KindOf(cause) {
	case tenants.KindInvalid, tenants.KindConflict:
	default:
		return cause
	}
	a, err := h.baa.Get(c.UserContext(), person(c), id)
	if err != nil {
		return err
	}
	return h.show(c, 0, &a, cause, form)
}

func (h agreements) organization(c *fiber.Ctx) (fleet.Organization, error) {
	p := person(c)
	return h.fleet.Get(c.UserContext(), p.Actor, p.TenantID)
}

// show renders an agreement, or the way to one if there is none. With a cause the
// form that made it replaces the fresh one.
func (h agreements) show(c *fiber.Ctx, status int, a *baa.Agreement, cause error, form func(*agreementPage) *Form) error {
	org, err := h.organization(c)
	if err != nil {
		return err
	}
	p := person(c)
	list, err := h.baa.List(c.UserContext(), p, p.TenantID)
	if err != nil {
		return err
	}
	data := agreementPage{Agreement: a, Place: "/baa/", Organization: org}
	page := Page{Title: "Business associate agreement", Section: "/baa"}
	if org.State == tenants.StatePending {
		step := session.SignBAA
		if a != nil && a.State == tenants.BAASigned {
			step = session.AwaitCountersignature
		}
		page.Steps = Steps(step, true)
	}
	h.fill(&data, &page, list)
	if cause != nil {
		var unexpected error
		if status, unexpected = form(&data).Fail(cause); unexpected != nil {
			return unexpected
		}
	}
	page.Data = data
	return h.site.Render(c, status, "agreement", page)
}

// fill gives the page what the agreement's state allows.
func (h agreements) fill(data *agreementPage, page *Page, list []baa.Agreement) {
	a := data.Agreement
	draft := func(label string) *Form { return &Form{Action: "/baa", Submit: label} }
	if a == nil {
		page.Lead = "Before any record can be stored, your organization and CareSphere sign a business associate agreement, as HIPAA demands (45 CFR 164.504(e))."
		data.Draft = draft("Prepare the agreement")
		return
	}
	data.Text = template.HTML(baa.HTML(a.Document, 2)) //nolint:gosec // baa.HTML escapes the text
	waiting := false
	for _, other := range list {
		waiting = waiting || other.State == tenants.BAADraft || other.State == tenants.BAASigned
		if other.ID != a.ID {
			data.History = append(data.History, other)
		}
	}
	customer, _ := h.baa.Statements()
	place := "/baa/" + a.ID.String()
	switch a.State {
	case tenants.BAADraft:
		page.Lead = "Read the agreement in full, then sign it below."
		data.Sign = signForm(*a, place+"/sign", customer, baa.Declaration{}, true)
	case tenants.BAASigned:
		page.Refresh = agreementRefresh
		page.Notice = &Notice{"info", "You have signed. CareSphere's countersignature is the next step; this page shows it as soon as it is there."}
		data.Terminate = terminateForm(place+"/terminate", data.Organization.Slug, "")
	case tenants.BAAExecuted:
		page.Notice = &Notice{"success", "The agreement is in force."}
		data.Terminate = terminateForm(place+"/terminate", data.Organization.Slug, "")
		if !waiting {
			data.Draft = draft("Prepare the next agreement")
		}
	default:
		page.Notice = &Notice{"warning", "This agreement is " + string(a.State) + "."}
		if !waiting && data.Organization.State != tenants.StateClosed {
			data.Draft = draft("Prepare a new agreement")
		}
	}
	if (a.State == tenants.BAADraft || a.State == tenants.BAASigned) && !a.Current {
		data.Sign, data.Draft = nil, draft("Prepare the current agreement")
		page.Refresh = 0
		page.Notice = &Notice{"warning", "The agreement's text has been revised since. Please prepare and sign the current one."}
	}
}

// signForm asks for a signature: the customer's with authority, or the operator's.
func signForm(a baa.Agreement, action string, s baa.Statements, d baa.Declaration, withAuthority bool) *Form {
	f := &Form{Action: action, Submit: "Sign the agreement", Hidden: []Field{{Name: "document_sha256", Value: a.DocumentSHA256}},
		Fields: []Field{
			{Name: "name", Label: "Your full name", Value: d.Name, Autocomplete: "name", Max: 200, Required: true, Hint: "Typing it here is your signature."},
			{Name: "title", Label: "Your title", Value: d.Title, Autocomplete: "organization-title", Max: 200, Required: true},
		}}
	if withAuthority {
		f.Fields = append(f.Fields, Field{Name: "authority", Label: "Your authority", Value: d.Authority, Max: 500, Required: true,
			Hint: "Why you may sign for the organization, for example: I am its managing member."})
	} else {
		f.Submit = "Countersign the agreement"
	}
	f.Fields = append(f.Fields,
		Field{Name: "consent", Type: "checkbox", Label: s.Consent, Checked: d.Consent, Required: true},
		Field{Name: "intent", Type: "checkbox", Label: s.Intent, Checked: d.Intent, Required: true})
	return f
}

// terminateForm asks for a reason, and for the short name typed: it takes every
// member's access away within seconds.
func terminateForm(action, slug, reason string) *Form {
	return &Form{Action: action, Submit: "End the agreement", Fields: []Field{
		{Name: "terminate_reason", Path: "body.reason", Label: "Reason", Value: reason, Max: 500, Required: true, Hint: "Kept with the agreement and shown to both sides."},
		{Name: "confirm", Label: "Type " + slug + " to confirm", Max: 39, Required: true, Autocomplete: "off"},
	}}
}
