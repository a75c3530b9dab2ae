package identity

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"time"

	ory "github.com/ory/client-go"

	"github.com/caresphere/caresphere/tenants"
)

// SchemaID names the identity schema that every account of a realm has: e-mail and name.
const SchemaID = "person"

// NewIdentity is what an account begins with. It has no credentials: the invited
// person sets them after proving that the mailbox is theirs.
type NewIdentity struct {
	Email, Name string
	// OrganizationID and Slug go to the public metadata; both are zero for operators.
	OrganizationID tenants.ID
	Slug           string
}

// CreateIdentity makes the identity of an e-mail address, or finds it: created is
// false when the address had one already, which is then left as it is. Errors:
// KindInvalid (Kratos refuses the traits), KindUnavailable.
func (c *Client) CreateIdentity(ctx context.Context, n NewIdentity) (id tenants.ID, created bool, err error) {
	if err := c.needAdmin(); err != nil {
		return tenants.NilID, false, err
	}
	ctx, cancel := context.WithTimeout(ctx, c.timeout)
	defer cancel()
	body := ory.NewCreateIdentityBody(SchemaID, map[string]any{"email": n.Email, "name": n.Name})
	if !n.OrganizationID.IsZero() {
		body.MetadataPublic = metadata(n.OrganizationID, n.Slug)
	}
	got, resp, err := c.admin.IdentityAPI.CreateIdentity(ctx).CreateIdentityBody(*body).Execute()
	closeBody(resp)
	if err == nil {
		id, err = tenants.ParseID(got.Id)
		return id, true, err
	}
	err = translate("making an identity", resp, err)
	if !tenants.IsKind(err, tenants.KindConflict) {
		return tenants.NilID, false, err
	}
	id, err = c.find(ctx, n.Email)
	return id, false, err
}

func metadata(org tenants.ID, slug string) map[string]any {
	return map[string]any{"organization_id": org.String(), "slug": slug}
}

// Find returns the identity with this e-mail address, or KindNotFound.
func (c *Client) Find(ctx context.Context, email string) (tenants.ID, error) {
	if err := c.needAdmin(); err != nil {
		return tenants.NilID, err
	}
	ctx, cancel := context.WithTimeout(ctx, c.timeout)
	defer cancel()
	return c.find(ctx, email)
}

func (c *Client) find(ctx context.Context, email string) (tenants.ID, error) {
	list, resp, err := c.admin.IdentityAPI.ListIdentities(ctx).CredentialsIdentifier(email).Execute()
	closeBody(resp)
	if err != nil {
		return tenants.NilID, translate("finding an identity", resp, err)
	}
	if len(list) != 1 {
		return tenants.NilID, tenants.NotFound()
	}
	return tenants.ParseID(list[0].Id)
}

// Adopt gives an existing identity its name and organization anew. It serves a
// retry after a crash that left the identity behind without an account.
func (c *Client) Adopt(ctx context.Context, id tenants.ID, n NewIdentity) error {
	return c.patch(ctx, id, "adopting an identity",
		op("add", "/traits/name", n.Name),
		op("add", "/metadata_public", metadata(n.OrganizationID, n.Slug)))
}

// MarkVerified records that the identity's e-mail address was proven.
func (c *Client) MarkVerified(ctx context.Context, id tenants.ID) error {
	return c.patch(ctx, id, "marking an address verified",
		op("replace", "/verifiable_addresses/0/verified", true),
		op("replace", "/verifiable_addresses/0/status", "completed"))
}

// Disable makes the identity unable to sign in and ends its sessions; Kratos
// would revive the old sessions if it were only switched on again.
func (c *Client) Disable(ctx context.Context, id tenants.ID) error {
	if err := c.patch(ctx, id, "disabling an identity", op("replace", "/state", "inactive")); err != nil {
		return err
	}
	return c.EndSessions(ctx, id)
}

// Remove removes the identity with its sessions and the codes that were made for it.
// It is not an error if there is none.
func (c *Client) Remove(ctx context.Context, id tenants.ID) error {
	return c.end(ctx, "removing an identity", func(ctx context.Context) (*http.Response, error) {
		return c.admin.IdentityAPI.DeleteIdentity(ctx, id.String()).Execute()
	})
}

func op(verb, path string, value any) ory.JsonPatch {
	p := ory.NewJsonPatch(verb, path)
	p.Value = value
	return *p
}

func (c *Client) patch(ctx context.Context, id tenants.ID, doing string, ops ...ory.JsonPatch) error {
	if err := c.needAdmin(); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, c.timeout)
	defer cancel()
	_, resp, err := c.admin.IdentityAPI.PatchIdentity(ctx, id.String()).JsonPatch(ops).Execute()
	closeBody(resp)
	if err != nil {
		return translate(doing, resp, err)
	}
	return nil
}

// RecoveryCode makes a one-time code with which its holder signs in once and sets
// credentials. It returns the code and the id of the flow that takes it, both
// good for the given time. Whoever has both is let in: mail them, never log them.
func (c *Client) RecoveryCode(ctx context.Context, id tenants.ID, lifetime time.Duration) (code, flowID string, err error) {
	if err := c.needAdmin(); err != nil {
		return "", "", err
	}
	ctx, cancel := context.WithTimeout(ctx, c.timeout)
	defer cancel()
	body := ory.NewCreateRecoveryCodeForIdentityBody(id.String())
	body.SetExpiresIn(fmt.Sprintf("%ds", int(lifetime.Seconds())))
	got, resp, err := c.admin.IdentityAPI.CreateRecoveryCodeForIdentity(ctx).CreateRecoveryCodeForIdentityBody(*body).Execute()
	closeBody(resp)
	if err != nil {
		return "", "", translate("making a recovery code", resp, err)
	}
	link, err := url.Parse(got.RecoveryLink)
	if err != nil || link.Query().Get("flow") == "" {
		return "", "", tenants.WrapError(tenants.KindUnavailable, "the identity service gave an unreadable answer", errors.New("recovery link without a flow"))
	}
	return got.RecoveryCode, link.Query().Get("flow"), nil
}

// Factors says which credentials an identity has set up.
type Factors struct {
	Password, TOTP, WebAuthn, RecoveryCodes bool
}

// SecondFactor tells whether a second factor is enrolled that can be used again
// and again; recovery codes alone run out and do not count.
func (f Factors) SecondFactor() bool { return f.TOTP || f.WebAuthn }

// Factors asks which credentials the identity has.
func (c *Client) Factors(ctx context.Context, id tenants.ID) (Factors, error) {
	if err := c.needAdmin(); err != nil {
		return Factors{}, err
	}
	ctx, cancel := context.WithTimeout(ctx, c.timeout)
	defer cancel()
	got, resp, err := c.admin.IdentityAPI.GetIdentity(ctx, id.String()).IncludeCredential([]string{"password", "totp", "webauthn", "lookup_secret"}).Execute()
	closeBody(resp)
	if err != nil {
		return Factors{}, translate("asking for an identity's factors", resp, err)
	}
	var f Factors
	for kind, cred := range got.GetCredentials() {
		switch kind {
		case "password":
			// An identity made without a password has the entry, with nothing in it.
			f.Password = filled(cred.Config, "hashed_password")
		case "totp":
			f.TOTP = filled(cred.Config, "totp_url")
		case "webauthn":
			list, _ := cred.Config["credentials"].([]any)
			f.WebAuthn = len(list) > 0
		case "lookup_secret":
			list, _ := cred.Config["recovery_codes"].([]any)
			f.RecoveryCodes = len(list) > 0
		}
	}
	return f, nil
}

func filled(m map[string]any, key string) bool {
	s, _ := m[key].(string)
	return s != ""
}

// HasPassword tells whether a password is set.
func (c *Client) HasPassword(ctx context.Context, id tenants.ID) (bool, error) {
	f, err := c.Factors(ctx, id)
	return f.Password, err
}

// HasSecondFactor tells whether a second factor is enrolled; see Factors.SecondFactor.
func (c *Client) HasSecondFactor(ctx context.Context, id tenants.ID) (bool, error) {
	f, err := c.Factors(ctx, id)
	return f.SecondFactor(), err
}

// EndSessions ends every session of the identity. It is not an error if there are none.
func (c *Client) EndSessions(ctx context.Context, id tenants.ID) error {
	return c.end(ctx, "ending sessions", func(ctx context.Context) (*http.Response, error) {
		return c.admin.IdentityAPI.DeleteIdentitySessions(ctx, id.String()).Execute()
	})
}

// EndSession ends one session. It is not an error if it is over already.
func (c *Client) EndSession(ctx context.Context, session tenants.ID) error {
	return c.end(ctx, "ending a session", func(ctx context.Context) (*http.Response, error) {
		return c.admin.IdentityAPI.DisableSession(ctx, session.String()).Execute()
	})
}

// ExtendSession prolongs a session by the realm's lifespan. Kratos would bring an
// expired session back to life: call it right after Whoami accepted the session.
func (c *Client) ExtendSession(ctx context.Context, session tenants.ID) error {
	if err := c.needAdmin(); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, c.timeout)
	defer cancel()
	_, resp, err := c.admin.IdentityAPI.ExtendSession(ctx, session.String()).Execute()
	closeBody(resp)
	// 204: extended, or too early to be; the library reads that as a broken body.
	if err != nil && (resp == nil || resp.StatusCode >= 300) {
		return translate("extending a session", resp, err)
	}
	return nil
}

// end makes a call after which something is not there any more: that it was not there
// before is no error.
func (c *Client) end(ctx context.Context, doing string, call func(context.Context) (*http.Response, error)) error {
	if err := c.needAdmin(); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, c.timeout)
	defer cancel()
	resp, err := call(ctx)
	closeBody(resp)
	if err != nil && (resp == nil || resp.StatusCode != http.StatusNotFound) {
		return translate(doing, resp, err)
	}
	return nil
}
