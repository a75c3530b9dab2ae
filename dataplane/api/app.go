// Package api is the worker's HTTP: the operations under /t/{slug}/v1, their
// OpenAPI description and nothing of their meaning.
//
// A handler reads, makes one call into a record package, and renders. It trusts
// the session gate for who acts and internal/httpx for what a request is. It never
// decides who may do what, and never puts a value of a request into an error.
package api

import (
	"context"
	"strconv"
	"strings"

	"github.com/danielgtaylor/huma/v2"
	"github.com/gofiber/fiber/v2"
	"golang.org/x/mod/sumdb/note"

	"github.com/caresphere/caresphere/dataplane/access"
	"github.com/caresphere/caresphere/dataplane/records"
	"github.com/caresphere/caresphere/dataplane/records/clients"
	"github.com/caresphere/caresphere/dataplane/records/facilities"
	"github.com/caresphere/caresphere/dataplane/records/members"
	"github.com/caresphere/caresphere/dataplane/records/notes"
	"github.com/caresphere/caresphere/dataplane/records/sessions"
	"github.com/caresphere/caresphere/dataplane/session"
	"github.com/caresphere/caresphere/dataplane/trail"
	"github.com/caresphere/caresphere/internal/httpx"
	"github.com/caresphere/caresphere/internal/obs"
	"github.com/caresphere/caresphere/internal/phi"
	"github.com/caresphere/caresphere/tenants"
)

// Config is what the API is made of.
type Config struct {
	// Obs counts, traces and logs; nil does not.
	Obs *obs.Obs
	// PublicOrigin is where browsers come from, as "https://localhost:8443".
	PublicOrigin string
	// Version goes into the description.
	Version string

	Gate        *session.Gate
	Routes      session.Routes
	Door        *access.Door
	Trail       *trail.Service
	Invitations members.Invitations
	Teller      records.Teller
	// Probe verifies the provisioner's tokens.
	Probe note.Verifier
	// Ready are the checks that the router's health check asks for.
	Ready []httpx.Check
}

// routerName is the certificate name of the only peer that speaks to a worker.
const routerName = "router"

// API is the worker's app with its description.
type API struct {
	App  *fiber.App
	Huma huma.API

	cfg    Config
	replay *replay
}

// New returns the app: everything under /t/{slug}/v1, the description at
// /openapi.json and the router's health check at /internal/readyz.
func New(cfg Config) *API {
	app := httpx.New(httpx.Config{Name: "dataplane", Obs: cfg.Obs, TrustedPeers: []string{routerName}})
	a := &API{App: app, cfg: cfg, replay: newReplay()}
	app.Get("/internal/readyz", httpx.ReadyHandler(httpx.Draining(app), cfg.Ready...))
	app.Use("/t/:slug/v1", httpx.SameOrigin(cfg.PublicOrigin), a.enter)
	a.Huma = httpx.NewAPI(app, app, httpx.APIConfig{
		Title: "CareSphere data plane", Version: cfg.Version,
		Description: "Records of one organization, under its own name in the path. Every request names a signed-in member " +
			"with a second factor and is decided by role and facility; every access is in the organization's audit trail. " +
			"What is absent and what is out of reach answer the same.",
		Tags: []httpx.Tag{
			{Name: "Session", Description: "The own session."},
			{Name: "Facilities", Description: "Places of care."},
			{Name: "Members", Description: "People of the organization, their roles, assignments and grants."},
			{Name: "Sessions", Description: "Who is signed in, and ending it."},
			{Name: "Clients", Description: "Patients and residents."},
			{Name: "Notes", Description: "Shift notes."},
			{Name: "Audit", Description: "The organization's audit trail."},
			{Name: "Platform", Description: "For the platform's own services."},
		},
		Marshal: phi.EncodeJSON,
	})
	a.sessionRoutes()
	a.facilityRoutes(facilities.Service{Door: cfg.Door})
	a.memberRoutes(members.Service{Door: cfg.Door, Invitations: cfg.Invitations, Teller: cfg.Teller})
	a.signedInRoutes(sessions.Service{Door: cfg.Door, Teller: cfg.Teller})
	a.clientRoutes(clients.Service{Door: cfg.Door})
	a.noteRoutes(notes.Service{Door: cfg.Door})
	a.auditRoutes()
	a.probeRoute()
	return a
}

type visitKey struct{}

// enter lets a request in, before anything of it is looked at but its path. The
// probe is the one operation without a session: it has a token of its own.
func (a *API) enter(c *fiber.Ctx) error {
	if c.Method() == fiber.MethodPost && strings.HasSuffix(c.Path(), "/v1/probe") {
		return c.Next()
	}
	ctx := httpx.Context(c)
	v, err := a.cfg.Gate.Enter(ctx, request(c))
	if err != nil {
		return err
	}
	obs.SetTenant(ctx, v.Actor.TenantID)
	c.SetUserContext(context.WithValue(ctx, visitKey{}, v))
	if err := c.Next(); err != nil {
		return err
	}
	if c.Response().StatusCode() < fiber.StatusBadRequest {
		a.cfg.Gate.Used(v)
	}
	return nil
}

func request(c *fiber.Ctx) session.Request {
	r := session.Request{
		Slug: c.Params("slug"), Epoch: epoch(c),
		Credential: session.CredentialFrom(c.Get(fiber.HeaderAuthorization), c.Get("X-Session-Token"), c.Get(fiber.HeaderCookie)),
	}
	r.IP, r.Device, r.RequestID = httpx.RequestInfo(httpx.Context(c))
	return r
}

// epoch is the placement that the router sent the request by; httpx removed the
// header unless the router's certificate vouches for it.
func epoch(c *fiber.Ctx) int64 {
	n, err := strconv.ParseInt(c.Get("Caresphere-Placement-Epoch"), 10, 64)
	if err != nil || n < 0 {
		return 0
	}
	return n
}

func visitOf(ctx context.Context) (session.Visit, error) {
	v, ok := ctx.Value(visitKey{}).(session.Visit)
	if !ok {
		return v, tenants.NewError(tenants.KindUnauthenticated, "sign in first")
	}
	return v, nil
}
