package web

import (
	"net/http"

	"github.com/gofiber/fiber/v2"
)

// MountIdentity serves the pages that both realms have: signing in and out,
// setting up, recovering.
func (s *Site) MountIdentity(app fiber.Router) {
	app.Get("/signin", s.signIn)
	app.Post("/signout", s.signOut)
	app.Get("/welcome", s.welcome)
	app.Get("/recovery", s.recovery)
	app.Get("/verification", s.verification)
	app.Get("/error", s.flowError)
	app.Get("/continue", func(c *fiber.Ctx) error {
		if done, err := s.next(c); done || err != nil {
			return err
		}
		return see(c, "/signin")
	})
	app.Get("/account", s.SignedIn(true), s.account)
	app.Get("/account/setup", s.SignedIn(false), s.needSecondFactor, s.setup)
}

// needSecondFactor leads an account that is set up to its second factor before it
// may change how it signs in.
func (s *Site) needSecondFactor(c *fiber.Ctx) error {
	if cur, _ := Current(c); cur.Step == "" && !cur.SecondFactor {
		return see(c, beginSecondFactor)
	}
	return c.Next()
}

// MountPublic serves the customers' front: the landing page and signing up.
func (s *Site) MountPublic(app fiber.Router, ups SignUps) {
	app.Get("/", func(c *fiber.Ctx) error {
		if done, err := s.next(c); done || err != nil {
			return err
		}
		return s.Render(c, http.StatusOK, "landing", Page{Title: "Clinical records that stay where they belong", Wide: true})
	})
	app.Get("/signup", s.Maybe, s.signUpPage)
	app.Post("/signup", takeSignUp(s, ups))
}

// MountOperatorFront leads operators from the origin's root to their work.
func (s *Site) MountOperatorFront(app fiber.Router) {
	app.Get("/", func(c *fiber.Ctx) error {
		if done, err := s.next(c); done || err != nil {
			return err
		}
		return see(c, "/signin")
	})
}
