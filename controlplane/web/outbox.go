package web

import (
	"context"
	"net/http"
	"regexp"
	"time"

	"github.com/gofiber/fiber/v2"

	"github.com/caresphere/caresphere/internal/mail"
	"github.com/caresphere/caresphere/tenants"
)

// Letters lists what is in the outbox, newest first.
type Letters interface {
	List(ctx context.Context, to string) ([]mail.Message, error)
}

// letter is a letter as GET /dev/outbox gives it to programs.
type letter struct {
	ID       tenants.ID `json:"id"`
	To       string     `json:"to"`
	Template string     `json:"template"`
	Subject  string     `json:"subject"`
	Body     string     `json:"body"`
	MadeAt   time.Time  `json:"made_at"`
}

type outboxPage struct {
	To      string
	Letters []letter
}

var linkInLetter = regexp.MustCompile(`https://localhost:[0-9]+(/[A-Za-z0-9/?=_-]*)`)

// Link is the path on this origin that the letter leads to, or "".
func (l letter) Link() string {
	if m := linkInLetter.FindStringSubmatch(l.Body); m != nil {
		return m[1]
	}
	return ""
}

// MountOutbox shows all mail to everybody. Only a local stack may have it: with
// the codes in it anybody is anybody.
func (s *Site) MountOutbox(app fiber.Router, box Letters) {
	app.Get("/dev/outbox", s.Maybe, func(c *fiber.Ctx) error {
		got, err := box.List(c.UserContext(), c.Query("to"))
		if err != nil {
			return err
		}
		list := make([]letter, len(got))
		for i, m := range got {
			list[i] = letter(m)
		}
		if c.Accepts(fiber.MIMETextHTML, fiber.MIMEApplicationJSON) == fiber.MIMEApplicationJSON {
			return c.JSON(list)
		}
		return s.Render(c, http.StatusOK, "outbox", Page{Title: "Mail outbox", Wide: true, Data: outboxPage{c.Query("to"), list},
			Lead: "Letters that would have been sent. Only a local stack shows them."})
	})
}
