package identity

import (
	"testing"
	"time"

	ory "github.com/ory/client-go"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/caresphere/caresphere/tenants"
)

var now = time.Date(2026, 11, 21, 22, 0, 0, 0, time.UTC)

func ptr[T any](v T) *T { return &v }

func kratosSession() *ory.Session {
	return &ory.Session{
		Id: tenants.NewID().String(), Active: ptr(true), ExpiresAt: ptr(now.Add(time.Hour)), IssuedAt: ptr(now.Add(-time.Minute)),
		AuthenticatorAssuranceLevel: ptr(ory.AUTHENTICATORASSURANCELEVEL_AAL2),
		Identity: &ory.Identity{Id: tenants.NewID().String(), State: ptr("active"),
			Traits:              map[string]any{"email": "dana@example.org", "name": "Dana"},
			MetadataPublic:      map[string]any{"organization_id": tenants.NewID().String(), "slug": "maple"},
			VerifiableAddresses: []ory.VerifiableIdentityAddress{{Value: "dana@example.org", Verified: true}}},
		AuthenticationMethods: []ory.SessionAuthenticationMethod{method("password", ory.AUTHENTICATORASSURANCELEVEL_AAL1, now.Add(-time.Minute))},
	}
}

func method(name string, level ory.AuthenticatorAssuranceLevel, at time.Time) ory.SessionAuthenticationMethod {
	m := ory.SessionAuthenticationMethod{Method: &name, Aal: &level}
	if !at.IsZero() {
		m.CompletedAt = &at
	}
	return m
}

func TestOnlyTheListedMethodsAreASecondFactor(t *testing.T) {
	const one, two = ory.AUTHENTICATORASSURANCELEVEL_AAL1, ory.AUTHENTICATORASSURANCELEVEL_AAL2
	for name, c := range map[string]struct {
		methods []ory.SessionAuthenticationMethod
		level   ory.AuthenticatorAssuranceLevel
		want    bool
	}{
		"totp":                           {[]ory.SessionAuthenticationMethod{method("totp", two, now)}, two, true},
		"security key":                   {[]ory.SessionAuthenticationMethod{method("webauthn", two, now)}, two, true},
		"recovery code of the account":   {[]ory.SessionAuthenticationMethod{method("lookup_secret", two, now)}, two, true},
		"mailed code":                    {[]ory.SessionAuthenticationMethod{method("code", two, now)}, two, false},
		"mailed code, twice":             {[]ory.SessionAuthenticationMethod{method("code_recovery", one, now), method("code", two, now)}, two, false},
		"passkey, which counts as one":   {[]ory.SessionAuthenticationMethod{method("passkey", one, now)}, one, false},
		"key without password":           {[]ory.SessionAuthenticationMethod{method("webauthn", one, now)}, one, false},
		"totp at level one":              {[]ory.SessionAuthenticationMethod{method("totp", one, now)}, two, false},
		"totp never completed":           {[]ory.SessionAuthenticationMethod{method("totp", two, time.Time{})}, two, false},
		"totp in a session at level one": {[]ory.SessionAuthenticationMethod{method("totp", two, now)}, one, false},
		"a method of tomorrow":           {[]ory.SessionAuthenticationMethod{method("oidc", two, now)}, two, false},
		"nothing":                        {nil, two, false},
	} {
		t.Run(name, func(t *testing.T) {
			s := kratosSession()
			s.AuthenticationMethods = append(s.AuthenticationMethods, c.methods...)
			s.AuthenticatorAssuranceLevel = &c.level
			got, err := readSession(s, now)
			require.NoError(t, err)
			assert.Equal(t, c.want, got.SecondFactor)
			assert.Equal(t, !c.want, got.SecondFactorAt.IsZero())
		})
	}
}

func TestSecondFactorIsAsOldAsItsLastCompletion(t *testing.T) {
	s := kratosSession()
	for _, ago := range []time.Duration{3 * time.Minute, time.Minute, 2 * time.Minute} {
		s.AuthenticationMethods = append(s.AuthenticationMethods, method("totp", ory.AUTHENTICATORASSURANCELEVEL_AAL2, now.Add(-ago)))
	}
	s.AuthenticatedAt = ptr(now)
	got, err := readSession(s, now)
	require.NoError(t, err)
	assert.Equal(t, now.Add(-time.Minute), got.SecondFactorAt, "not AuthenticatedAt, which a password renews")
}

func TestSessionThatIsNoneIsUnauthenticated(t *testing.T) {
	for name, change := range map[string]func(*ory.Session){
		"not active":           func(s *ory.Session) { s.Active = ptr(false) },
		"active not said":      func(s *ory.Session) { s.Active = nil },
		"no identity":          func(s *ory.Session) { s.Identity = nil },
		"disabled identity":    func(s *ory.Session) { s.Identity.State = ptr("inactive") },
		"expired":              func(s *ory.Session) { s.ExpiresAt = ptr(now) },
		"expiry not said":      func(s *ory.Session) { s.ExpiresAt = nil },
		"strange session id":   func(s *ory.Session) { s.Id = "x" },
		"strange identity id":  func(s *ory.Session) { s.Identity.Id = "x" },
		"strange organization": func(s *ory.Session) { s.Identity.MetadataPublic["organization_id"] = "x" },
	} {
		s := kratosSession()
		change(s)
		_, err := readSession(s, now)
		assert.True(t, tenants.IsKind(err, tenants.KindUnauthenticated), "%s: %v", name, err)
	}
	got, err := readSession(kratosSession(), now)
	require.NoError(t, err)
	assert.Equal(t, "maple", got.Slug)
	assert.True(t, got.EmailVerified)
	assert.False(t, got.Recovered())
}

func TestVerifiedMeansTheAddressInUse(t *testing.T) {
	s := kratosSession()
	s.Identity.VerifiableAddresses[0].Value = "old@example.org"
	got, err := readSession(s, now)
	require.NoError(t, err)
	assert.False(t, got.EmailVerified)
}
