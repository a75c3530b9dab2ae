package main

import (
	"github.com/gofiber/fiber/v2"

	"github.com/caresphere/caresphere/controlplane/api"
	"github.com/caresphere/caresphere/controlplane/session"
	"github.com/caresphere/caresphere/internal/httpx"
	"github.com/caresphere/caresphere/tenants"
)

// Peers that may reach the control plane by mutual TLS.
const (
	peerRouter      = "router"
	peerData        = "dataplane"
	peerProvisioner = "provisioner"
)

const apiVersion = "1"

// publicApp is the customers' origin, as the router brings it here, and what the
// platform's other processes ask.
func (p *plane) publicApp() *fiber.App {
	r := p.customers
	app := httpx.New(httpx.Config{Name: "controlplane", Obs: p.obs, TrustedPeers: []string{peerRouter}, ErrorPage: r.site.ErrorPage})
	p.internal(app)
	app.Use(httpx.SameOrigin(r.origin))
	r.mount(app)
	r.site.MountPublic(app, p.signups)
	r.site.MountOrganization(app, p.fleet)
	r.site.MountAgreements(app, p.agreements, p.fleet)
	if p.settings.Dev {
		r.site.MountOutbox(app, p.outbox)
	}
	h := api.Realm{Gate: r.gate, API: httpx.NewAPI(app, app, httpx.APIConfig{
		Title: "CareSphere control plane", Version: apiVersion,
		Description: "Signing up, the business associate agreement and the organization's way to going live. Sessions come from the self-service flows under /.ory/ (Ory Kratos); records are under /t/{slug}/ and have a document of their own at /t/openapi.json.",
		Servers:     []string{"/"}, Security: httpx.SessionSecurity(session.Customer.CookieName()),
		Tags: []httpx.Tag{{Name: "Onboarding", Description: "From signing up to a session with a second factor."},
			{Name: "Organization", Description: "The organization and its provisioning."},
			{Name: "Agreements", Description: "The business associate agreement."}},
	})}
	api.RegisterSignUp(h, p.signups)
	api.RegisterMe(h, p.members)
	api.RegisterOrganization(h, p.fleet)
	api.RegisterBAA(h, p.agreements, p.pool)
	return app
}

// operatorApp is the operators' origin.
func (p *plane) operatorApp() *fiber.App {
	r := p.operators
	app := httpx.New(httpx.Config{Name: "operators", Obs: p.obs, ErrorPage: r.site.ErrorPage})
	app.Use(httpx.SameOrigin(r.origin))
	r.mount(app)
	r.site.MountOperatorFront(app)
	r.site.MountFleet(app, p.agreements, p.fleet, p.isolation)
	r.site.MountIsolation(app, p.isolation)
	h := api.Realm{Gate: r.gate, API: httpx.NewAPI(app, app, httpx.APIConfig{
		Title: "CareSphere operations", Version: apiVersion,
		Description: "What the platform's operators do. Nothing here shows clinical records.",
		Servers:     []string{"/"}, Security: httpx.SessionSecurity(session.Operator.CookieName()),
		Tags: []httpx.Tag{{Name: "Account", Description: "The signed-in operator."},
			{Name: "Fleet", Description: "The fleet of organizations."},
			{Name: "Isolation", Description: "Proofs that organizations are apart, and repairs."},
			{Name: "Keys", Description: "The versions of organizations' keys, and their rotation."},
			{Name: "Agreements", Description: "Countersigning and ending agreements."}},
	})}
	api.RegisterOperatorMe(h)
	api.RegisterOperator(h, api.OperatorDeps{Fleet: p.fleet, Agreements: p.agreements})
	api.RegisterOperatorBAA(h, p.agreements)
	api.RegisterIsolation(h, p.isolation)
	api.RegisterRotations(h, p.rotations)
	return app
}

// internal serves the platform's other processes.
func (p *plane) internal(app *fiber.App) {
	app.Use("/internal", direct)
	app.Get("/internal/readyz", httpx.RequirePeer(peerRouter, peerData, peerProvisioner), httpx.ReadyHandler(httpx.Draining(app), p.checks()...))
	internal := httpx.NewAPI(app, app, httpx.APIConfig{Title: "CareSphere internal", Version: apiVersion, SpecPath: "/internal/openapi.json",
		Description: "What the platform's processes ask of each other by mutual TLS.",
		Tags:        []httpx.Tag{{Name: "Members"}, {Name: "Sessions"}, {Name: "Placement"}}})
	api.RegisterInvitations(internal, p.members, p.customers.ids)
	api.RegisterStandings(internal, p.members, p.customers.ids)
	api.RegisterPlacement(internal, p.feed, p.workers)
}

// healthApp answers whoever watches the process, and takes Kratos' letters: both
// are on a listener that only this machine or its network reaches.
func (p *plane) healthApp(draining func() bool) *fiber.App {
	app := httpx.Health(httpx.HealthConfig{Draining: draining, Checks: p.checks(), Metrics: p.obs.Metrics})
	app.Post("/internal/v1/kratos-mail", api.KratosMail(p.members, p.courierKey))
	return app
}

// direct admits what another process of the platform asks on its own behalf. What
// the router brings from outside names the client that it is from.
func direct(c *fiber.Ctx) error {
	if c.Get("X-Real-Ip") != "" || c.Get(fiber.HeaderXForwardedFor) != "" {
		return tenants.NotFound()
	}
	return c.Next()
}
