package web

import (
	"net/http"
	"strings"

	"github.com/gofiber/fiber/v2"

	"github.com/caresphere/caresphere/controlplane/identitygate"
	"github.com/caresphere/caresphere/internal/httpx"
	"github.com/caresphere/caresphere/internal/identity"
	"github.com/caresphere/caresphere/tenants"
)

type errorPage struct {
	Status    int
	RequestID string
	Text      string
}

// ErrorPage shows a problem as a page, for httpx.Config. A guard's refusal of a
// flow's form is shown in that form, beside its field.
func (s *Site) ErrorPage(c *fiber.Ctx, p *httpx.ProblemDetails) bool {
	if strings.HasPrefix(c.Path(), "/api/") || strings.HasPrefix(c.Path(), "/internal/") {
		return false
	}
	if s.inFlow(c, p) {
		return true
	}
	titles := map[int]string{
		http.StatusNotFound: "Page not found", http.StatusForbidden: "Not allowed", http.StatusTooManyRequests: "Too many tries",
		http.StatusServiceUnavailable: "Not available at the moment", http.StatusUnauthorized: "Sign in first",
	}
	title := titles[p.Status]
	if title == "" {
		title = "That did not work"
	}
	text := p.Detail
	for _, f := range p.Errors {
		if f.Message != "" && f.Field != "next" {
			text = f.Message
		}
	}
	err := s.Render(c, p.Status, "error", Page{Title: title, Data: errorPage{Status: p.Status, RequestID: p.RequestID, Text: sentence(text)}})
	return err == nil
}

// inFlow renders the page of the flow whose submission was refused.
func (s *Site) inFlow(c *fiber.Ctx, p *httpx.ProblemDetails) bool {
	kind, ok := strings.CutPrefix(c.Path(), identitygate.Prefix+"self-service/")
	if !ok || c.Method() != fiber.MethodPost {
		return false
	}
	show := map[identity.FlowKind]func(*fiber.Ctx, int, identity.Flow, error) error{
		identity.FlowLogin: s.showSignIn, identity.FlowRecovery: s.showRecovery,
		identity.FlowSettings: s.showSetup, identity.FlowVerification: s.showVerification,
	}[identity.FlowKind(kind)]
	if show == nil {
		return false
	}
	f, err := s.fetch(c, identity.FlowKind(kind), c.Query("flow"))
	if err != nil {
		return false
	}
	if kind == string(identity.FlowSettings) {
		if _, err := s.open(c); err != nil {
			return false
		}
	}
	// Messages in the flow are of an earlier try.
	f.Messages = nil
	refusal := &tenants.Error{Kind: p.Kind(), Message: p.Detail}
	for _, e := range p.Errors {
		refusal.Fields = append(refusal.Fields, tenants.FieldError{Field: e.Field, Message: e.Message})
	}
	return show(c, p.Status, f, refusal) == nil
}

// flowError shows what Kratos sent the browser here for.
func (s *Site) flowError(c *fiber.Ctx) error {
	text := "Something went wrong while signing in. Please begin again."
	if id := c.Query("id"); id != "" {
		if _, err := tenants.ParseID(id); err == nil {
			if t := s.Flows.ErrorText(c.UserContext(), id); t != "" {
				text = sentence(t)
			}
		}
	}
	_, _, request := httpx.RequestInfo(c.UserContext())
	return s.Render(c, http.StatusOK, "error", Page{Title: "That did not work", Data: errorPage{Text: text, RequestID: request}})
}
