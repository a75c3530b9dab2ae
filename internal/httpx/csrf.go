package httpx

import (
	"github.com/gofiber/fiber/v2"

	"github.com/caresphere/caresphere/tenants"
)

// SameOrigin refuses unsafe requests that another site made a browser send:
// KindForbidden unless Sec-Fetch-Site is same-origin, or, from a browser without
// it, Origin is the given one. A request with neither header comes from no
// current browser and passes only without a cookie, as a bearer's does.
func SameOrigin(origin string) fiber.Handler {
	refused := tenants.NewError(tenants.KindForbidden, "the request comes from another site")
	return func(c *fiber.Ctx) error {
		switch c.Method() {
		case fiber.MethodGet, fiber.MethodHead, fiber.MethodOptions:
			return c.Next()
		}
		site, from := c.Get("Sec-Fetch-Site"), c.Get(fiber.HeaderOrigin)
		switch {
		case site != "":
			if site != "same-origin" || from != "" && from != origin {
				return refused
			}
		case from != "":
			if from != origin {
				return refused
			}
		case len(c.Request().Header.Peek(fiber.HeaderCookie)) > 0:
			return refused
		}
		return c.Next()
	}
}
