package identity

import (
	"context"
	"net/http"
	"slices"
	"time"

	ory "github.com/ory/client-go"

	"github.com/caresphere/caresphere/tenants"
)

// Credential is what a client showed: its Cookie header or its session token.
// Exactly one is used; a token wins, as it does in Kratos.
type Credential struct {
	Cookie string
	Token  string
}

// IsZero tells whether nothing was shown.
func (c Credential) IsZero() bool { return c.Cookie == "" && c.Token == "" }

// Session is a session as Kratos knows it at this moment, read strictly.
type Session struct {
	ID         tenants.ID
	IdentityID tenants.ID
	// OrganizationID and Slug come from the identity's public metadata, which only
	// the admin API can write. Operators have none.
	OrganizationID tenants.ID
	Slug           string
	Email, Name    string
	EmailVerified  bool
	// SecondFactor is true only when the session reached aal2 by TOTP, WebAuthn or a
	// recovery code of the account. A code sent by e-mail never counts.
	SecondFactor bool
	// SecondFactorAt is when that last happened; a password entered again does not renew it.
	SecondFactorAt  time.Time
	IssuedAt        time.Time
	AuthenticatedAt time.Time
	ExpiresAt       time.Time
	// Methods names every completed method, in order, as Kratos calls them.
	Methods []string
}

// Recovered tells whether the session began with a code or link mailed to the
// account's address, which proves that its holder reads that mailbox.
func (s Session) Recovered() bool {
	return slices.Contains(s.Methods, methodRecoveryCode) || slices.Contains(s.Methods, methodRecoveryLink)
}

const (
	methodRecoveryCode = "code_recovery"
	methodRecoveryLink = "link_recovery"
)

// secondFactors are the methods that count as one (NIST SP 800-63B, 5.1).
var secondFactors = map[string]bool{"totp": true, "webauthn": true, "lookup_secret": true}

// Whoami returns the session of a credential. Errors: KindUnauthenticated for no
// credential and for a session that is unknown, revoked, expired or of a disabled
// identity; KindSecondFactor if this Kratos itself demands a higher level;
// KindUnavailable when Kratos does not answer, or cannot look sessions up.
func (c *Client) Whoami(ctx context.Context, cred Credential) (Session, error) {
	if cred.IsZero() {
		return Session{}, tenants.NewError(tenants.KindUnauthenticated, "sign in first")
	}
	ctx, cancel := context.WithTimeout(ctx, c.timeout)
	defer cancel()
	req := c.public.FrontendAPI.ToSession(ctx)
	if cred.Token != "" {
		req = req.XSessionToken(cred.Token)
	} else {
		req = req.Cookie(cred.Cookie)
	}
	s, resp, err := req.Execute()
	closeBody(resp)
	if err != nil {
		err = translate("asking whose session it is", resp, err)
		switch tenants.KindOf(err) {
		case tenants.KindForbidden:
			return Session{}, tenants.WrapError(tenants.KindSecondFactor, "sign in with your second factor", err)
		case tenants.KindInvalid, tenants.KindNotFound:
			return Session{}, tenants.WrapError(tenants.KindUnauthenticated, "sign in first", err)
		case tenants.KindUnauthenticated:
			if away := c.meant(ctx, time.Now()); away != nil {
				return Session{}, away
			}
		}
		return Session{}, err
	}
	return readSession(s, time.Now())
}

func readSession(s *ory.Session, now time.Time) (Session, error) {
	refused := tenants.NewError(tenants.KindUnauthenticated, "sign in first")
	if !s.GetActive() || s.Identity == nil || s.Identity.GetState() == "inactive" || !now.Before(s.GetExpiresAt()) {
		return Session{}, refused
	}
	out := Session{IssuedAt: s.GetIssuedAt(), AuthenticatedAt: s.GetAuthenticatedAt(), ExpiresAt: s.GetExpiresAt()}
	var err error
	if out.ID, err = tenants.ParseID(s.Id); err != nil {
		return Session{}, refused
	}
	if out.IdentityID, err = tenants.ParseID(s.Identity.Id); err != nil {
		return Session{}, refused
	}
	traits, _ := s.Identity.Traits.(map[string]any)
	out.Email, _ = traits["email"].(string)
	out.Name, _ = traits["name"].(string)
	if org, ok := s.Identity.MetadataPublic["organization_id"].(string); ok {
		if out.OrganizationID, err = tenants.ParseID(org); err != nil {
			return Session{}, refused
		}
	}
	out.Slug, _ = s.Identity.MetadataPublic["slug"].(string)
	for _, a := range s.Identity.VerifiableAddresses {
		if a.Verified && a.Value == out.Email {
			out.EmailVerified = true
		}
	}
	for _, m := range s.AuthenticationMethods {
		out.Methods = append(out.Methods, m.GetMethod())
		if secondFactors[m.GetMethod()] && m.GetAal() == ory.AUTHENTICATORASSURANCELEVEL_AAL2 && m.GetCompletedAt().After(out.SecondFactorAt) {
			out.SecondFactorAt = m.GetCompletedAt()
		}
	}
	out.SecondFactor = !out.SecondFactorAt.IsZero() && s.GetAuthenticatorAssuranceLevel() == ory.AUTHENTICATORASSURANCELEVEL_AAL2
	if !out.SecondFactor {
		out.SecondFactorAt = time.Time{}
	}
	return out, nil
}

// The client library reads bodies whole; closing is for the cases where it failed to.
func closeBody(resp *http.Response) {
	if resp != nil && resp.Body != nil {
		_ = resp.Body.Close()
	}
}
