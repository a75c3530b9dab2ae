package client

import (
	"context"
	"net/http"
	"net/url"
	"time"
)

// SignUp is what an organization gives to begin.
type SignUp struct {
	Organization SignUpOrganization `json:"organization"`
	Owner        SignUpOwner        `json:"owner"`
}

// SignUpOrganization names the organization. Slug may be empty: one is made from the name.
type SignUpOrganization struct {
	LegalName   string `json:"legal_name"`
	Slug        string `json:"slug,omitempty"`
	CareSetting string `json:"care_setting"`
}

// SignUpOwner names the first owner.
type SignUpOwner struct {
	Name  string `json:"name"`
	Email string `json:"email"`
}

// SignedUp is the answer to a sign-up.
type SignedUp struct {
	OrganizationID string `json:"organization_id"`
	Slug           string `json:"slug"`
	Status         string `json:"status"`
}

// SignUp asks for an organization; the invitation goes to the owner by mail.
func (c *Client) SignUp(ctx context.Context, s SignUp, idempotencyKey string) (SignedUp, error) {
	return fetch[SignedUp](ctx, c, Request{Method: http.MethodPost, Path: "/api/v1/signups", Body: s, IdempotencyKey: idempotencyKey})
}

// Me is who the session belongs to and what is to be done next.
type Me struct {
	Next string `json:"next"`
}

// Me returns the signed-in account's next step.
func (c *Client) Me(ctx context.Context) (Me, error) {
	return fetch[Me](ctx, c, Request{Method: http.MethodGet, Path: "/api/v1/me"})
}

// BAA is a business associate agreement as the API shows it.
type BAA struct {
	ID              string    `json:"id"`
	OrganizationID  string    `json:"organization_id"`
	State           string    `json:"state"`
	TemplateVersion string    `json:"template_version"`
	DocumentSHA256  string    `json:"document_sha256"`
	ExpiresAt       time.Time `json:"expires_at"`
}

// Signature is what a signer declares.
type Signature struct {
	Name           string `json:"name"`
	Title          string `json:"title"`
	Authority      string `json:"authority,omitempty"`
	Consent        bool   `json:"consent"`
	Intent         bool   `json:"intent"`
	DocumentSHA256 string `json:"document_sha256"`
}

// CurrentBAA returns the organization's newest agreement, making a draft if it has none.
func (c *Client) CurrentBAA(ctx context.Context) (BAA, error) {
	out, err := fetch[BAA](ctx, c, Request{Method: http.MethodGet, Path: "/api/v1/baa"})
	if StatusOf(err) == http.StatusNotFound {
		return c.NewBAA(ctx)
	}
	return out, err
}

// NewBAA drafts a new agreement on the current template.
func (c *Client) NewBAA(ctx context.Context) (BAA, error) {
	return fetch[BAA](ctx, c, Request{Method: http.MethodPost, Path: "/api/v1/baa", Body: struct{}{}})
}

// SignBAA signs for the customer.
func (c *Client) SignBAA(ctx context.Context, id string, s Signature) (BAA, error) {
	return fetch[BAA](ctx, c, Request{Method: http.MethodPost, Path: "/api/v1/baas/" + id + "/sign", Body: s})
}

// CountersignBAA signs for the platform; operators' origin.
func (c *Client) CountersignBAA(ctx context.Context, id string, s Signature) (BAA, error) {
	return fetch[BAA](ctx, c, Request{Method: http.MethodPost, Path: "/api/v1/baas/" + id + "/countersign", Body: s})
}

// TerminateBAA ends an agreement, on either origin.
func (c *Client) TerminateBAA(ctx context.Context, id, reason string) error {
	return c.Do(ctx, Request{Method: http.MethodPost, Path: "/api/v1/baas/" + id + "/terminate", Body: map[string]string{"reason": reason}}, nil)
}

// Provisioning is how far an organization's provisioning is.
type Provisioning struct {
	State string             `json:"state"`
	Steps []ProvisioningStep `json:"steps"`
}

// ProvisioningStep is one durable step.
type ProvisioningStep struct {
	Step    string `json:"step"`
	State   string `json:"state"`
	Attempt int    `json:"attempt"`
	Reason  string `json:"reason"`
}

// Provisioning returns the steps as they are now.
func (c *Client) Provisioning(ctx context.Context) (Provisioning, error) {
	return fetch[Provisioning](ctx, c, Request{Method: http.MethodGet, Path: "/api/v1/organization/provisioning"})
}

// Mail is one message in the local stack's outbox.
type Mail struct {
	ID       string    `json:"id"`
	To       string    `json:"to"`
	Template string    `json:"template"`
	Subject  string    `json:"subject"`
	Body     string    `json:"body"`
	MadeAt   time.Time `json:"made_at"`
}

// Outbox returns the mails to one address, newest first; local stacks only.
func (c *Client) Outbox(ctx context.Context, to string) ([]Mail, error) {
	return fetch[[]Mail](ctx, c, Request{Method: http.MethodGet, Path: "/dev/outbox?to=" + url.QueryEscape(to)})
}
