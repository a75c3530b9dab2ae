package web

import (
	"net/http"

	"github.com/gofiber/fiber/v2"

	"github.com/caresphere/caresphere/controlplane/members"
)

type accountPage struct {
	Progress *members.Progress
	Owner    bool
}

// account shows who is signed in.
func (s *Site) account(c *fiber.Ctx) error {
	cur, _ := Current(c)
	data := accountPage{}
	if s.Progress != nil {
		p, err := s.Progress.Progress(c.UserContext(), cur)
		if err != nil {
			return err
		}
		data.Progress, data.Owner = &p, cur.Account.Owner
	}
	return s.Render(c, http.StatusOK, "account", Page{Title: "Your account", Section: "/account", Data: data})
}
