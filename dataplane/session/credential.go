package session

import (
	"strings"

	"github.com/caresphere/caresphere/internal/identity"
)

// CookieName is the session cookie that Kratos sets.
const CookieName = "caresphere_session"

// CredentialFrom reads what a request shows: a session token as a bearer or in
// X-Session-Token, else its cookies, if the session's is among them.
func CredentialFrom(authorization, sessionToken, cookie string) identity.Credential {
	if scheme, token, ok := strings.Cut(authorization, " "); ok && strings.EqualFold(scheme, "Bearer") {
		return identity.Credential{Token: strings.TrimSpace(token)}
	}
	if sessionToken != "" {
		return identity.Credential{Token: sessionToken}
	}
	for part := range strings.SplitSeq(cookie, ";") {
		if name, value, ok := strings.Cut(strings.TrimSpace(part), "="); ok && name == CookieName && value != "" {
			return identity.Credential{Cookie: cookie}
		}
	}
	return identity.Credential{}
}
