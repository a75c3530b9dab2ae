package web

import (
	"context"
	"net/http"
	"slices"

	"github.com/gofiber/fiber/v2"

	"github.com/caresphere/caresphere/controlplane/api"
	"github.com/caresphere/caresphere/controlplane/baa"
	"github.com/caresphere/caresphere/controlplane/fleet"
	"github.com/caresphere/caresphere/controlplane/isolation"
	"github.com/caresphere/caresphere/tenants"
)

// operations are the operators' pages.
type operations struct {
	site   *Site
	baa    api.Agreements
	fleet  api.Fleet
	proofs api.Isolation
}

// MountFleet serves the operators' pages of organizations and agreements.
func (s *Site) MountFleet(app fiber.Router, a api.Agreements, f api.Fleet, i api.Isolation) {
	h := operations{s, a, f, i}
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

type fleetOrganizationPage struct {
	Organization fleet.Organization
	Steps        []fleet.Step
	Agreements   []baa.Agreement
	// Proof is the newest isolation proof, if there is one.
	Proof *isolation.Standing
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
	{"resume", "Resume", "Resume the organization", "Makes the organization live again, if its agreement is in force. A quarantined one must have been proven isolated since.", []tenants.State{tenants.StateSuspended, tenants.StateReadOnly, tenants.StateQuarantined}},
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
	proof, proven, err := h.proofs.Of(c.UserContext(), p.Actor, id)
	if err != nil {
		return err
	}
	if proven {
		data.Proof = &proof
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
	case tenants.StateQuarantined:
		page.Notice = &Notice{"error", "Quarantined: the isolation proof failed. Repair it, prove it again, then resume."}
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
