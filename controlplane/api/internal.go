package api

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"net/http"

	"github.com/danielgtaylor/huma/v2"
	"github.com/gofiber/fiber/v2"

	"github.com/caresphere/caresphere/internal/httpx"
	"github.com/caresphere/caresphere/tenants"
)

// Inviter enrols members for the data plane; see members.Service.
type Inviter interface {
	Invite(ctx context.Context, organization tenants.ID, email, name, requestID string) (tenants.ID, error)
}

// Extender keeps a session alive that the data plane saw in use.
type Extender interface {
	ExtendSession(ctx context.Context, session tenants.ID) error
}

type invitationInput struct {
	Body struct {
		OrganizationID tenants.ID `json:"organization_id"`
		Email          string     `json:"email" maxLength:"254"`
		Name           string     `json:"name" minLength:"2" maxLength:"100"`
	}
}

type invitationOutput struct {
	Body struct {
		IdentityID tenants.ID `json:"identity_id"`
	}
}

// peer admits only peers whose certificate bears one of the names.
func peer(names ...string) func(huma.Context, func(huma.Context)) {
	return func(hc huma.Context, next func(huma.Context)) {
		cn := httpx.PeerFrom(hc.Context())
		for _, n := range names {
			if cn == n {
				next(hc)
				return
			}
		}
		refuse(hc, tenants.NewError(tenants.KindForbidden, "this endpoint is for other services of the platform"))
	}
}

// RegisterInvitations declares what a data-plane worker asks of the control plane.
// api is that of the internal operations, which no public document describes.
func RegisterInvitations(api huma.API, s Inviter, e Extender) {
	huma.Register(api, huma.Operation{
		OperationID: "invite-member", Method: http.MethodPost, Path: "/internal/v1/invitations", Tags: []string{"Members"},
		Summary: "Enrol a member of an organization", Security: httpx.Public(), Middlewares: huma.Middlewares{peer("dataplane")},
		MaxBodyBytes: 16 << 10,
	}, func(ctx context.Context, in *invitationInput) (*invitationOutput, error) {
		if in.Body.OrganizationID.IsZero() {
			return nil, tenants.Invalid("body.organization_id", "must be an organization's id")
		}
		id, err := s.Invite(ctx, in.Body.OrganizationID, in.Body.Email, in.Body.Name, Info(ctx).RequestID)
		if err != nil {
			return nil, err
		}
		out := &invitationOutput{}
		out.Body.IdentityID = id
		return out, nil
	})
	huma.Register(api, huma.Operation{
		OperationID: "extend-session", Method: http.MethodPost, Path: "/internal/v1/sessions/{id}/extend", Tags: []string{"Sessions"},
		Summary: "Prolong a session that is in use", Security: httpx.Public(), Middlewares: huma.Middlewares{peer("dataplane")},
		DefaultStatus: http.StatusNoContent,
		Description:   "The worker calls this right after Kratos accepted the session, and enforces its own idle and absolute limits.",
	}, func(ctx context.Context, in *struct {
		ID tenants.ID `path:"id"`
	}) (*struct{}, error) {
		return nil, e.ExtendSession(ctx, in.ID)
	})
}

// CourierHeader carries the key by which Kratos' courier identifies itself.
const CourierHeader = "X-Courier-Key"

// Courier takes the letters that Kratos wants sent; see members.Service.
type Courier interface {
	Deliver(ctx context.Context, to, template, code string) error
}

// KratosMail answers Kratos' courier, which has no client certificate and shows a
// key instead. Only the recipient, the kind of letter and the code are taken: the
// text is our own. It belongs on the loopback listener for health.
func KratosMail(s Courier, key string) fiber.Handler {
	want := sha256.Sum256([]byte(key))
	return func(c *fiber.Ctx) error {
		got := sha256.Sum256([]byte(c.Get(CourierHeader)))
		if key == "" || subtle.ConstantTimeCompare(got[:], want[:]) != 1 {
			return tenants.NewError(tenants.KindForbidden, "this endpoint is for the identity service")
		}
		var in struct {
			To       string `json:"to"`
			Template string `json:"template"`
			Code     string `json:"code"`
		}
		if err := c.BodyParser(&in); err != nil {
			return httpx.Malformed("body", "must be a letter as JSON")
		}
		if err := s.Deliver(httpx.Context(c), in.To, in.Template, in.Code); err != nil {
			return err
		}
		return c.SendStatus(http.StatusNoContent)
	}
}
