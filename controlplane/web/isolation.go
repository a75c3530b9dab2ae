package web

import (
	"context"
	"fmt"
	"net/http"
	"time"

	"github.com/gofiber/fiber/v2"

	"github.com/caresphere/caresphere/controlplane/api"
	"github.com/caresphere/caresphere/controlplane/isolation"
)

// isolationRefresh is how often the page looks again while a proof is made.
const isolationRefresh = 3 * time.Second

type isolationPage struct {
	Standings []isolation.Standing
	Runs      []isolation.Status
}

// MountIsolation serves the operators' page of proofs.
func (s *Site) MountIsolation(app fiber.Router, proofs api.Isolation) {
	full := s.SignedIn(true)
	app.Get("/isolation", full, func(c *fiber.Ctx) error {
		var (
			data isolationPage
			err  error
		)
		if data.Standings, err = proofs.Standings(c.UserContext(), person(c).Actor); err != nil {
			return err
		}
		if data.Runs, err = proofs.Runs(c.UserContext(), person(c).Actor); err != nil {
			return err
		}
		page := Page{Title: "Isolation", Section: "/isolation", Wide: true, Data: data,
			Lead: "Proofs that organizations are apart. One that fails quarantines the organization at once."}
		if page.Notice, err = quarantineNotice(c.UserContext(), proofs); err != nil {
			return err
		}
		for _, r := range data.Runs {
			if r.FinishedAt == nil {
				page.Refresh = isolationRefresh
			}
		}
		return s.Render(c, http.StatusOK, "isolation", page)
	})
	app.Post("/isolation/prove", full, func(c *fiber.Ctx) error {
		if _, err := proofs.AskProof(c.UserContext(), person(c).Actor, "", ""); err != nil {
			return err
		}
		return see(c, "/isolation")
	})
}

// quarantineNotice is the banner that operators see until nobody is quarantined.
func quarantineNotice(ctx context.Context, proofs api.Isolation) (*Notice, error) {
	n, err := proofs.Quarantined(ctx)
	switch {
	case err != nil || n == 0:
		return nil, err
	case n == 1:
		return &Notice{"error", "One organization is quarantined: its isolation proof failed and nobody of it is served."}, nil
	}
	return &Notice{"error", fmt.Sprintf("%d organizations are quarantined: their isolation proofs failed and nobody of them is served.", n)}, nil
}
