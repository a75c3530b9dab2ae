package identitygate

import (
	"net/http"
	"strings"

	"github.com/gofiber/fiber/v2"

	"github.com/caresphere/caresphere/controlplane/session"
	"github.com/caresphere/caresphere/internal/httpx"
	"github.com/caresphere/caresphere/internal/identity"
)

// Credential reads what a request shows: a session token (X-Session-Token, or
// Authorization: Bearer), else its cookies. A token wins over cookies. Two
// different tokens, or two session cookies, are refused: two readers could take
// one each. The returned cookies are those of the realm's Kratos only.
func Credential(c *fiber.Ctx, realm session.Realm) (identity.Credential, error) {
	ambiguous := httpx.Malformed("header.Authorization", "must name one session")
	var token string
	h := &c.Request().Header
	for name, prefix := range map[string]string{"X-Session-Token": "", fiber.HeaderAuthorization: "bearer "} {
		all := h.PeekAll(name)
		if len(all) > 1 {
			return identity.Credential{}, ambiguous
		}
		if len(all) == 0 || len(all[0]) == 0 {
			continue
		}
		v := string(all[0])
		if len(v) < len(prefix) || !strings.EqualFold(v[:len(prefix)], prefix) {
			return identity.Credential{}, ambiguous
		}
		v = strings.TrimSpace(v[len(prefix):])
		if v == "" || token != "" && token != v {
			return identity.Credential{}, ambiguous
		}
		token = v
	}
	if token != "" {
		return identity.Credential{Token: token}, nil
	}
	lines := h.PeekAll(fiber.HeaderCookie)
	if len(lines) == 0 {
		return identity.Credential{}, nil
	}
	if len(lines) > 1 {
		return identity.Credential{}, ambiguous
	}
	var kept []string
	seen := map[string]bool{}
	for part := range strings.SplitSeq(string(lines[0]), ";") {
		name, _, _ := strings.Cut(strings.TrimSpace(part), "=")
		if name != realm.CookieName() && !strings.HasPrefix(name, "csrf_token") {
			continue
		}
		k, err := http.ParseCookie(strings.TrimSpace(part))
		if err != nil || len(k) != 1 || seen[name] {
			return identity.Credential{}, ambiguous
		}
		seen[name] = true
		kept = append(kept, k[0].Name+"="+k[0].Value)
	}
	return identity.Credential{Cookie: strings.Join(kept, "; ")}, nil
}

// hasSession tells whether the credential could have a session at all.
func hasSession(cred identity.Credential, realm session.Realm) bool {
	return cred.Token != "" || strings.Contains(cred.Cookie, realm.CookieName()+"=")
}
