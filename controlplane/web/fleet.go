package web

import (
	"bytes"
	"cmp"
	"context"
	"encoding/csv"
	"html/template"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/gofiber/fiber/v2"

	"github.com/caresphere/caresphere/controlplane/api"
	"github.com/caresphere/caresphere/controlplane/baa"
	"github.com/caresphere/caresphere/controlplane/fleet"
	"github.com/caresphere/caresphere/tenants"
)

// fleetLimit is how many organizations the table holds; a search narrows it.
const fleetLimit = 500

type fleetPage struct {
	Items  []fleet.Organization
	Search string
	State  string
	Sort   string
	Desc   bool
	States []tenants.State
	// Cut tells that there are more than the table holds.
	Cut bool
	// Columns are the sortable headings with their links.
	Columns []column
	CSV     string
}

type column struct {
	Label, Link, Direction string
}

// operations are the operators' pages.
type operations struct {
	site  *Site
	baa   api.Agreements
	fleet api.Fleet
}

// MountFleet serves the operators' pages of organizations and agreements.
func (s *Site) MountFleet(app fiber.Router, a api.Agreements, f api.Fleet) {
	h := operations{s, a, f}
	full := s.SignedIn(true)
	app.Get("/organizations", full, h.list)
	app.Get("/organizations.csv", full, h.csv)
	app.Get("/organizations/:id", full, h.one)
	for path, do := range map[string]func(context.Context, tenants.Actor, tenants.ID, string) error{
		"suspend": f.Suspend, "resume": f.Resume, "read-only": f.ReadOnly,
	} {
		app.Post("/organizations/:id/"+path, full, h.move(path, do))
	}
	app.Post("/organizations/:id/retry", full, h.retry)
	app.Get("/baas/:id", full, h.agreement)
	app.Post("/baas/:id/countersign", full, h.countersign)
	app.Post("/baas/:id/terminate", full, h.terminate)
}

var sorts = []struct {
	name, label string
	by          func(a, b fleet.Organization) int
}{
	{"name", "Organization", func(a, b fleet.Organization) int {
		return cmp.Compare(strings.ToLower(a.LegalName), strings.ToLower(b.LegalName))
	}},
	{"state", "State", func(a, b fleet.Organization) int { return cmp.Compare(a.State, b.State) }},
	{"gate", "Gate", func(a, b fleet.Organization) int { return cmp.Compare(a.Gate.Mode, b.Gate.Mode) }},
	{"agreement", "Agreement", func(a, b fleet.Organization) int { return cmp.Compare(a.BAA.State, b.BAA.State) }},
	{"expires", "Expires", func(a, b fleet.Organization) int { return moment(a.BAAExpiresAt).Compare(moment(b.BAAExpiresAt)) }},
	{"created", "Signed up", func(a, b fleet.Organization) int { return a.CreatedAt.Compare(b.CreatedAt) }},
}

func moment(t *time.Time) time.Time {
	if t == nil {
		return time.Time{}
	}
	return *t
}

// table reads, filters and sorts what the query asks for. What it does not know
// it leaves at the default: a page is no place for a problem document.
func (h operations) table(c *fiber.Ctx) (fleetPage, error) {
	p := fleetPage{Search: strings.TrimSpace(c.Query("search")), Sort: c.Query("sort", "created"), Desc: c.Query("dir", "desc") == "desc", States: tenants.States()}
	if len(p.Search) > 100 {
		p.Search = p.Search[:100]
	}
	p.Search = strings.ToValidUTF8(strings.ReplaceAll(p.Search, "\x00", ""), "")
	if slices.Contains(p.States, tenants.State(c.Query("state"))) {
		p.State = c.Query("state")
	}
	list, err := h.fleet.List(c.UserContext(), person(c).Actor, fleet.Filter{Search: p.Search, State: tenants.State(p.State), Limit: fleetLimit})
	if err != nil {
		return p, err
	}
	p.Cut = len(list) == fleetLimit
	known := false
	for _, s := range sorts {
		link := url.Values{"sort": {s.name}, "dir": {"asc"}}
		col := column{Label: s.label}
		if s.name == p.Sort {
			known = true
			col.Direction = "ascending"
			slices.SortStableFunc(list, s.by)
			if p.Desc {
				col.Direction = "descending"
				slices.Reverse(list)
			} else {
				link.Set("dir", "desc")
			}
		}
		col.Link = "/organizations?" + p.query(link)
		p.Columns = append(p.Columns, col)
	}
	if !known {
		p.Sort = "created"
	}
	p.Items = list
	dir := "asc"
	if p.Desc {
		dir = "desc"
	}
	p.CSV = "/organizations.csv?" + p.query(url.Values{"sort": {p.Sort}, "dir": {dir}})
	return p, nil
}

func (p fleetPage) query(v url.Values) string {
	if p.Search != "" {
		v.Set("search", p.Search)
	}
	if p.State != "" {
		v.Set("state", p.State)
	}
	return v.Encode()
}

func (h operations) list(c *fiber.Ctx) error {
	p, err := h.table(c)
	if err != nil {
		return err
	}
	return h.site.Render(c, http.StatusOK, "organizations", Page{Title: "Organizations", Section: "/organizations", Wide: true, Data: p})
}

// csv gives the table as a file. A cell that a spreadsheet would take for a
// formula is quoted: names come from sign-ups by anybody.
func (h operations) csv(c *fiber.Ctx) error {
	p, err := h.table(c)
	if err != nil {
		return err
	}
	var b bytes.Buffer
	w := csv.NewWriter(&b)
	rows := [][]string{{"id", "slug", "legal_name", "care_setting", "state", "state_reason", "gate", "gate_reason", "agreement", "agreement_expires", "owner", "plan", "cell", "signed_up"}}
	for _, o := range p.Items {
		expires := ""
		if o.BAAExpiresAt != nil {
			expires = o.BAAExpiresAt.UTC().Format(time.RFC3339)
		}
		rows = append(rows, []string{o.ID.String(), o.Slug, o.LegalName, string(o.CareSetting), string(o.State), o.StateReason, string(o.Gate.Mode),
			string(o.Gate.Reason), string(o.BAA.State), expires, o.OwnerEmail, o.Plan, o.CellID, o.CreatedAt.UTC().Format(time.RFC3339)})
	}
	for _, row := range rows {
		for i, cell := range row {
			if cell != "" && strings.ContainsRune("=+-@\t\r", rune(cell[0])) {
				row[i] = "'" + cell
			}
		}
		if err := w.Write(row); err != nil {
			return err
		}
	}
	w.Flush()
	c.Set(fiber.HeaderContentType, "text/csv; charset=utf-8")
	c.Set(fiber.HeaderContentDisposition, `attachment; filename="organizations.csv"`)
	return c.Send(b.Bytes())
}

type fleetOrganizationPage struct {
	Organization fleet.Organization
	Steps        []fleet.Step
	Agreements   []baa.Agreement
	// Moves are what the lifecycle allows now; Open is the one that failed.
	Moves []moveForm
	Retry *Form
}

type moveForm struct {
	Label, Hint string
	Form        Form
	Open        bool
}

var moves = []struct {
	path, label, submit, hint string
	from                      []tenants.State
}{
	{"suspend", "Suspend", "Suspend the organization", "Closes the gate within seconds. Records stay as they are.", []tenants.State{tenants.StateLive, tenants.StateReadOnly, tenants.StateQuarantined}},
	{"read-only", "Make read-only", "Make the organization read-only", "Records can be read, not changed.", []tenants.State{tenants.StateLive, tenants.StateSuspended}},
	{"resume", "Resume", "Resume the organization", "Makes the organization live again, if its agreement is in force.", []tenants.State{tenants.StateSuspended, tenants.StateReadOnly}},
}

func (h operations) one(c *fiber.Ctx) error {
	id, err := pathID(c)
	if err != nil {
		return err
	}
	return h.showOne(c, http.StatusOK, id, "", "", nil)
}

// showOne renders an organization; failed names the form that did not work.
func (h operations) showOne(c *fiber.Ctx, status int, id tenants.ID, failed, reason string, cause error) error {
	p := person(c)
	o, err := h.fleet.Get(c.UserContext(), p.Actor, id)
	if err != nil {
		return err
	}
	data := fleetOrganizationPage{Organization: o}
	if data.Steps, err = h.fleet.Steps(c.UserContext(), p.Actor, id); err != nil {
		return err
	}
	if data.Agreements, err = h.baa.List(c.UserContext(), p, id); err != nil {
		return err
	}
	for _, m := range moves {
		if !slices.Contains(m.from, o.State) {
			continue
		}
		f := Form{Action: "/organizations/" + id.String() + "/" + m.path, Submit: m.submit, Fields: []Field{
			{Name: m.path + "_reason", Path: "body.reason", Label: "Reason", Max: 500, Required: true, Hint: "Recorded, and shown to the organization."}}}
		move := moveForm{Label: m.label, Hint: m.hint, Form: f}
		if m.path == failed {
			move.Open = true
			move.Form.Fields[0].Value = reason
			var unexpected error
			if status, unexpected = move.Form.Fail(cause); unexpected != nil {
				return unexpected
			}
		}
		data.Moves = append(data.Moves, move)
	}
	page := Page{Title: o.LegalName, Section: "/organizations", Wide: true}
	switch o.State {
	case tenants.StateProvisioningFailed:
		data.Retry = &Form{Action: "/organizations/" + id.String() + "/retry", Submit: "Try provisioning again"}
	case tenants.StateProvisioning:
		page.Refresh = provisioningRefresh
	}
	page.Data = data
	return h.site.Render(c, status, "fleet_organization", page)
}

func (h operations) move(path string, do func(context.Context, tenants.Actor, tenants.ID, string) error) fiber.Handler {
	return func(c *fiber.Ctx) error {
		id, err := pathID(c)
		if err != nil {
			return err
		}
		reason := c.FormValue(path + "_reason")
		err = do(c.UserContext(), person(c).Actor, id, reason)
		switch {
		case err == nil:
			return see(c, "/organizations/"+id.String())
		case tenants.IsKind(err, tenants.KindInvalid):
			return h.showOne(c, 0, id, path, reason, err)
		}
		return err
	}
}

func (h operations) retry(c *fiber.Ctx) error {
	id, err := pathID(c)
	if err != nil {
		return err
	}
	if err := h.fleet.Retry(c.UserContext(), person(c).Actor, id); err != nil {
		return err
	}
	return see(c, "/organizations/"+id.String())
}

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
