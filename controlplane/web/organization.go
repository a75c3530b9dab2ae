package web

import (
	"net/http"
	"time"

	"github.com/gofiber/fiber/v2"

	"github.com/caresphere/caresphere/controlplane/api"
	"github.com/caresphere/caresphere/controlplane/fleet"
	"github.com/caresphere/caresphere/controlplane/session"
	"github.com/caresphere/caresphere/tenants"
)

// provisioningRefresh is how often the page follows the steps while they run.
const provisioningRefresh = 2 * time.Second

type organizationPage struct {
	Organization fleet.Organization
	Steps        []fleet.Step
	// Owner tells whether the reader may act for the organization.
	Owner bool
	Retry *Form
}

// MountOrganization serves the overview of one's own organization, which shows
// provisioning while it runs.
func (s *Site) MountOrganization(app fiber.Router, f api.Fleet) {
	full := s.SignedIn(true)
	show := func(c *fiber.Ctx) error { return s.showOrganization(c, f) }
	app.Get("/organization", full, show)
	app.Get("/provisioning", full, show)
	app.Post("/provisioning/retry", full, func(c *fiber.Ctx) error {
		a := person(c).Actor
		if err := f.Retry(c.UserContext(), a, a.TenantID); err != nil {
			return err
		}
		return see(c, "/organization")
	})
}

func (s *Site) showOrganization(c *fiber.Ctx, f api.Fleet) error {
	cur, _ := Current(c)
	a := cur.Actor()
	o, err := f.Get(c.UserContext(), a, a.TenantID)
	if err != nil {
		return err
	}
	steps, err := f.Steps(c.UserContext(), a, a.TenantID)
	if err != nil {
		return err
	}
	data := organizationPage{Organization: o, Steps: steps, Owner: cur.Account.Owner}
	page := Page{Title: o.LegalName, Section: "/organization"}
	if step, underway := wayOf(o); underway {
		page.Steps = Steps(step, data.Owner)
	}
	switch o.State {
	case tenants.StateProvisioning:
		if o.Gate.Reason == tenants.GateNoBAA {
			page.Notice = &Notice{"warning", "The set-up waits: there is no agreement in force."}
			break
		}
		page.Refresh = provisioningRefresh
		page.Notice = &Notice{"info", "Your organization is being set up. This page follows by itself."}
	case tenants.StateProvisioningFailed:
		page.Notice = &Notice{"error", "The set-up stopped. The reason is shown below."}
		if data.Owner {
			data.Retry = &Form{Action: "/provisioning/retry", Submit: "Try again"}
		}
	case tenants.StateSuspended, tenants.StateQuarantined:
		page.Notice = &Notice{"error", "The organization is " + string(o.State) + ": nobody can reach its records at the moment."}
	case tenants.StateReadOnly:
		page.Notice = &Notice{"warning", "The organization is read-only: records can be read, not changed."}
	case tenants.StateLive:
		if o.Gate.Mode == tenants.GateClosed {
			page.Notice = &Notice{"error", "Nobody can reach the organization's records: " + gateText(o.Gate.Reason) + "."}
		}
	}
	page.Data = data
	return s.Render(c, http.StatusOK, "organization", page)
}

// wayOf returns the step that an organization is at, as long as it is underway.
func wayOf(o fleet.Organization) (session.Step, bool) {
	switch o.State {
	case tenants.StatePending:
		if o.BAA.State == tenants.BAASigned {
			return session.AwaitCountersignature, true
		}
		return session.SignBAA, true
	case tenants.StateProvisioning, tenants.StateProvisioningFailed:
		return session.Provisioning, true
	}
	return "", false
}

func gateText(r tenants.GateReason) string {
	switch r {
	case tenants.GateNoBAA:
		return "there is no agreement in force"
	case tenants.GateState:
		return "it is not live"
	case tenants.GateSuspended:
		return "it is suspended"
	case tenants.GateQuarantined:
		return "it is quarantined"
	case tenants.GateKeyGone:
		return "its key is not available"
	}
	return ""
}
