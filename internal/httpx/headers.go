package httpx

import (
	"strings"

	"github.com/gofiber/fiber/v2"
)

// Content security policies (CSP level 3).
const (
	// PageCSP is for pages: our own scripts and styles from files, none inline,
	// forms to ourselves, and images of our own or in data: URLs (the TOTP code).
	PageCSP = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; font-src 'self'; " +
		"connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
	// DataCSP is for everything else.
	DataCSP = "default-src 'none'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'"
)

var always = [...][2]string{
	{"Strict-Transport-Security", "max-age=63072000; includeSubDomains"},
	{"X-Content-Type-Options", "nosniff"},
	// With no-referrer a browser sends "Origin: null" with a form of our own.
	{"Referrer-Policy", "same-origin"},
	{"X-Frame-Options", "DENY"},
	{"Cross-Origin-Opener-Policy", "same-origin"},
	{"Cross-Origin-Resource-Policy", "same-origin"},
	{"Permissions-Policy", "camera=(), geolocation=(), microphone=(), payment=(), usb=()"},
}

// secure adds the headers that the handler did not set itself. Everything is
// no-store unless the handler said otherwise: an answer may hold PHI.
func secure(c *fiber.Ctx) {
	h := &c.Response().Header
	for _, kv := range always {
		if len(h.Peek(kv[0])) == 0 {
			h.Set(kv[0], kv[1])
		}
	}
	if len(h.Peek(fiber.HeaderContentSecurityPolicy)) == 0 {
		policy := DataCSP
		if strings.HasPrefix(string(h.ContentType()), fiber.MIMETextHTML) {
			policy = PageCSP
		}
		h.Set(fiber.HeaderContentSecurityPolicy, policy)
	}
	if len(h.Peek(fiber.HeaderCacheControl)) == 0 {
		h.Set(fiber.HeaderCacheControl, "no-store")
	}
}
