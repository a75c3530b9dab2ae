package api

import (
	"context"
	"net/http"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/caresphere/caresphere/controlplane/baa"
	"github.com/caresphere/caresphere/controlplane/idempotency"
	"github.com/caresphere/caresphere/controlplane/session"
	"github.com/caresphere/caresphere/internal/evidence"
	"github.com/caresphere/caresphere/tenants"
)

// Agreements is what the agreements' operations call; see baa.Service.
type Agreements interface {
	Current(ctx context.Context, p baa.Person) (baa.Agreement, error)
	Get(ctx context.Context, p baa.Person, id tenants.ID) (baa.Agreement, error)
	List(ctx context.Context, p baa.Person, organization tenants.ID) ([]baa.Agreement, error)
	Draft(ctx context.Context, p baa.Person, termMonths int) (baa.Agreement, error)
	Sign(ctx context.Context, p baa.Person, id tenants.ID, d baa.Declaration) (baa.Agreement, error)
	Countersign(ctx context.Context, p baa.Person, id tenants.ID, d baa.Declaration) (baa.Agreement, error)
	Terminate(ctx context.Context, p baa.Person, id tenants.ID, reason string) (baa.Agreement, error)
	PDF(ctx context.Context, p baa.Person, id tenants.ID) ([]byte, error)
	Bundle(ctx context.Context, p baa.Person, id tenants.ID) ([]byte, error)
	Statements() (customer, operator baa.Statements)
}

// Person is the session's holder as an agreement's signature records them.
func Person(cur session.Current) baa.Person {
	return baa.Person{Actor: cur.Actor(), Email: cur.Email, Methods: cur.Methods,
		SessionIssuedAt: cur.IssuedAt, SignedInAt: cur.AuthenticatedAt, SecondFactorAt: cur.SecondFactorAt}
}

// BAA is a business associate agreement.
type BAA struct {
	ID              tenants.ID       `json:"id"`
	OrganizationID  tenants.ID       `json:"organization_id"`
	State           tenants.BAAState `json:"state" enum:"draft,signed,executed,terminated,expired,superseded"`
	TemplateVersion string           `json:"template_version"`
	TemplateCurrent bool             `json:"template_current" doc:"Whether the template is the one that new agreements use. Only such an agreement can be signed."`
	DocumentSHA256  string           `json:"document_sha256" doc:"The hash of the canonical text; a signer gives it back to say which text was read."`
	TermMonths      int              `json:"term_months"`
	CreatedAt       time.Time        `json:"created_at"`
	SignedAt        *time.Time       `json:"signed_at,omitempty"`
	ExecutedAt      *time.Time       `json:"executed_at,omitempty"`
	ExpiresAt       *time.Time       `json:"expires_at,omitempty"`
	EndedAt         *time.Time       `json:"ended_at,omitempty"`
	EndedReason     string           `json:"ended_reason,omitempty"`
	Customer        *Signature       `json:"customer,omitempty" doc:"The covered entity's signature."`
	Operator        *Signature       `json:"operator,omitempty" doc:"The business associate's signature."`
}

// Signature is who signed, and when.
type Signature struct {
	Name      string    `json:"name"`
	Title     string    `json:"title"`
	Authority string    `json:"authority"`
	Email     string    `json:"email"`
	SignedAt  time.Time `json:"signed_at"`
}

func showBAA(a baa.Agreement) BAA {
	out := BAA{ID: a.ID, OrganizationID: a.OrganizationID, State: a.State, TemplateVersion: a.TemplateVersion,
		TemplateCurrent: a.Current, DocumentSHA256: a.DocumentSHA256, TermMonths: a.TermMonths, CreatedAt: a.CreatedAt,
		SignedAt: a.SignedAt, ExecutedAt: a.ExecutedAt, ExpiresAt: a.ExpiresAt, EndedAt: a.EndedAt, EndedReason: a.EndedReason}
	for _, s := range []struct {
		from *evidence.Signature
		to   **Signature
	}{{a.Customer, &out.Customer}, {a.Operator, &out.Operator}} {
		if s.from != nil {
			*s.to = &Signature{Name: s.from.Signer.Name, Title: s.from.Signer.Title, Authority: s.from.Signer.Authority,
				Email: s.from.Signer.Email, SignedAt: s.from.SignedAt}
		}
	}
	return out
}

type baaOutput struct{ Body BAA }

type baasOutput struct {
	Body struct {
		Items []BAA `json:"items"`
	}
}

// BAAPath names an agreement. It is exported because huma fills no embedded
// struct that is not.
type BAAPath struct {
	ID tenants.ID `path:"id" doc:"The agreement's id."`
}

type newBAAInput struct {
	IdempotencyKey
	Body struct {
		TermMonths int `json:"term_months,omitempty" minimum:"1" maximum:"120" doc:"How long the agreement lasts once it is executed; 36 if left out."`
	}
}

type signInput struct {
	BAAPath
	Body struct {
		Name           string `json:"name" maxLength:"200" doc:"The signer's name, as typed." example:"Dana Okafor"`
		Title          string `json:"title" maxLength:"200" example:"Executive Director"`
		Authority      string `json:"authority" maxLength:"500" doc:"Why the signer may bind the organization." example:"I am an officer of the organization."`
		Consent        bool   `json:"consent" doc:"Consent to sign electronically (15 USC 7001(c)). Must be true."`
		Intent         bool   `json:"intent" doc:"Intent to sign. Must be true."`
		DocumentSHA256 string `json:"document_sha256,omitempty" maxLength:"64" doc:"The hash of the text that was read. If given it must be that of this agreement."`
	}
}

type countersignInput struct {
	BAAPath
	Body struct {
		Name           string `json:"name" maxLength:"200" example:"Riley Stone"`
		Title          string `json:"title" maxLength:"200" example:"Compliance Officer"`
		Consent        bool   `json:"consent" doc:"Must be true."`
		Intent         bool   `json:"intent" doc:"Must be true."`
		DocumentSHA256 string `json:"document_sha256" maxLength:"64" doc:"The hash of the text that was read; it must be that of this agreement."`
	}
}

// ReasonBody is why something is done.
type ReasonBody struct {
	Body struct {
		Reason string `json:"reason" maxLength:"500" doc:"Kept with the record and shown to both sides." example:"The organization moves to another service."`
	}
}

type terminateInput struct {
	BAAPath
	ReasonBody
}

type fileOutput struct {
	ContentType string `header:"Content-Type"`
	Disposition string `header:"Content-Disposition"`
	Body        []byte
}

func file(contentType, name string, content []byte) *fileOutput {
	return &fileOutput{ContentType: contentType, Disposition: `attachment; filename="` + name + `"`, Body: content}
}

// answer documents an operation's answer that is not JSON.
func answer(contentType, description string) map[string]*huma.Response {
	return map[string]*huma.Response{"200": {Description: description,
		Content: map[string]*huma.MediaType{contentType: {Schema: &huma.Schema{Type: "string", Format: "binary"}}}}}
}

// The media types of an agreement's files.
const (
	mimeHTML   = "text/html; charset=utf-8"
	mimePDF    = "application/pdf"
	MIMEBundle = "application/vnd.caresphere.baa-bundle"
)

const tagAgreements = "Agreements"

// RegisterBAA declares the agreements' operations for customers.
func RegisterBAA(r Realm, s Agreements, pool *pgxpool.Pool) {
	full := r.Full()
	huma.Register(r.API, huma.Operation{OperationID: "get-current-baa", Method: http.MethodGet, Path: "/api/v1/baa", Tags: []string{tagAgreements},
		Summary:     "The agreement that matters now",
		Description: "The one that waits for a signature, else the one in force, else the newest. 404 if there is none: make a draft.", Middlewares: full,
	}, func(ctx context.Context, _ *struct{}) (*baaOutput, error) {
		a, err := s.Current(ctx, Person(Caller(ctx)))
		return shown(a, err)
	})
	huma.Register(r.API, huma.Operation{OperationID: "list-baas", Method: http.MethodGet, Path: "/api/v1/baas", Tags: []string{tagAgreements},
		Summary: "All agreements of the organization, newest first", Middlewares: full,
	}, func(ctx context.Context, _ *struct{}) (*baasOutput, error) {
		p := Person(Caller(ctx))
		list, err := s.List(ctx, p, p.TenantID)
		if err != nil {
			return nil, err
		}
		out := &baasOutput{}
		out.Body.Items = agreements(list)
		return out, nil
	})
	huma.Register(r.API, huma.Operation{OperationID: "draft-baa", Method: http.MethodPost, Path: "/api/v1/baa", Tags: []string{tagAgreements},
		Summary:     "Draft an agreement on the current template",
		Description: "A draft of the same template and term is given again; another one that waits is superseded.",
		Middlewares: full, DefaultStatus: http.StatusCreated, MaxBodyBytes: 4 << 10,
	}, func(ctx context.Context, in *newBAAInput) (*baaOutput, error) {
		p := Person(Caller(ctx))
		req := idempotency.Request{Actor: p.ID.String(), Key: in.Key, Operation: "draft-baa", Body: in.Body}
		body, found, err := idempotency.Earlier[BAA](ctx, pool, req)
		if err != nil || found {
			return &baaOutput{Body: body}, err
		}
		a, err := s.Draft(ctx, p, in.Body.TermMonths)
		if err != nil {
			return nil, err
		}
		// Drafting twice gives the same draft, so that the answer may be kept after it.
		body, err = idempotency.Do(ctx, pool, req, func(pgx.Tx) (BAA, error) { return showBAA(a), nil })
		if err != nil {
			return nil, err
		}
		return &baaOutput{Body: body}, nil
	})
	registerBAAReading(r, s)
	huma.Register(r.API, huma.Operation{OperationID: "sign-baa", Method: http.MethodPost, Path: "/api/v1/baas/{id}/sign", Tags: []string{tagAgreements},
		Summary: "Sign for the organization", Description: "Owners only, in a session with a second factor.", Middlewares: full, MaxBodyBytes: 16 << 10,
	}, func(ctx context.Context, in *signInput) (*baaOutput, error) {
		a, err := s.Sign(ctx, Person(Caller(ctx)), in.ID, baa.Declaration{Name: in.Body.Name, Title: in.Body.Title, Authority: in.Body.Authority,
			Consent: in.Body.Consent, Intent: in.Body.Intent, DocumentSHA256: in.Body.DocumentSHA256})
		return shown(a, err)
	})
}

// RegisterOperatorBAA declares the agreements' operations for operators.
func RegisterOperatorBAA(r Realm, s Agreements) {
	registerBAAReading(r, s)
	huma.Register(r.API, huma.Operation{OperationID: "countersign-baa", Method: http.MethodPost, Path: "/api/v1/baas/{id}/countersign",
		Tags: []string{tagAgreements}, Summary: "Countersign for the business associate", Middlewares: r.Full(), MaxBodyBytes: 16 << 10,
		Description: "Puts the agreement in force: the organization is sent to be provisioned, or its gate opens again.",
	}, func(ctx context.Context, in *countersignInput) (*baaOutput, error) {
		a, err := s.Countersign(ctx, Person(Caller(ctx)), in.ID, baa.Declaration{Name: in.Body.Name, Title: in.Body.Title,
			Consent: in.Body.Consent, Intent: in.Body.Intent, DocumentSHA256: in.Body.DocumentSHA256})
		return shown(a, err)
	})
}

func shown(a baa.Agreement, err error) (*baaOutput, error) {
	if err != nil {
		return nil, err
	}
	return &baaOutput{Body: showBAA(a)}, nil
}

// registerBAAReading declares what both realms may do with an agreement.
func registerBAAReading(r Realm, s Agreements) {
	full := r.Full()
	huma.Register(r.API, huma.Operation{OperationID: "get-baa", Method: http.MethodGet, Path: "/api/v1/baas/{id}", Tags: []string{tagAgreements},
		Summary: "One agreement", Middlewares: full,
	}, func(ctx context.Context, in *BAAPath) (*baaOutput, error) {
		a, err := s.Get(ctx, Person(Caller(ctx)), in.ID)
		return shown(a, err)
	})
	huma.Register(r.API, huma.Operation{OperationID: "get-baa-document", Method: http.MethodGet, Path: "/api/v1/baas/{id}/document",
		Tags: []string{tagAgreements}, Summary: "The agreement's text as a page", Middlewares: full, Responses: answer("text/html", "The text as HTML."),
	}, func(ctx context.Context, in *BAAPath) (*fileOutput, error) {
		a, err := s.Get(ctx, Person(Caller(ctx)), in.ID)
		if err != nil {
			return nil, err
		}
		return &fileOutput{ContentType: mimeHTML, Disposition: "inline", Body: []byte(baa.Page(a.Document, a.DocumentSHA256))}, nil
	})
	huma.Register(r.API, huma.Operation{OperationID: "get-baa-pdf", Method: http.MethodGet, Path: "/api/v1/baas/{id}/pdf",
		Tags: []string{tagAgreements}, Summary: "The executed agreement as PDF", Middlewares: full, Responses: answer(mimePDF, "The PDF."),
	}, func(ctx context.Context, in *BAAPath) (*fileOutput, error) {
		b, err := s.PDF(ctx, Person(Caller(ctx)), in.ID)
		if err != nil {
			return nil, err
		}
		return file(mimePDF, PDFName(in.ID), b), nil
	})
	huma.Register(r.API, huma.Operation{OperationID: "get-baa-bundle", Method: http.MethodGet, Path: "/api/v1/baas/{id}/bundle",
		Tags: []string{tagAgreements}, Summary: "The evidence bundle", Middlewares: full, Responses: answer(MIMEBundle, "The bundle."),
		Description: "Text, both sealed signatures and PDF in one file. Check it offline with: caresphere baa verify FILE --key PUB",
	}, func(ctx context.Context, in *BAAPath) (*fileOutput, error) {
		b, err := s.Bundle(ctx, Person(Caller(ctx)), in.ID)
		if err != nil {
			return nil, err
		}
		return file(MIMEBundle, BundleName(in.ID), b), nil
	})
	huma.Register(r.API, huma.Operation{OperationID: "terminate-baa", Method: http.MethodPost, Path: "/api/v1/baas/{id}/terminate",
		Tags: []string{tagAgreements}, Summary: "End an agreement", Middlewares: full, MaxBodyBytes: 8 << 10,
		Description: "Closes the organization's gate within seconds. The records stay; a new agreement in force opens it again.",
	}, func(ctx context.Context, in *terminateInput) (*baaOutput, error) {
		a, err := s.Terminate(ctx, Person(Caller(ctx)), in.ID, in.Body.Reason)
		return shown(a, err)
	})
}

// PDFName and BundleName are the names under which the files are saved.
func PDFName(id tenants.ID) string { return "baa-" + id.String() + ".pdf" }

// BundleName is the evidence bundle's file name.
func BundleName(id tenants.ID) string { return "baa-" + id.String() + ".bundle" }
