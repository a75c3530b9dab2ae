package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/caresphere/caresphere/controlplane/store"
	"github.com/caresphere/caresphere/internal/httpx"
)

// provisionerSilence is how long the provisioner may be silent before sign-up to
// going live does not work any more.
const provisionerSilence = 30 * time.Second

// checks are what signing up to going live needs of this side.
func (p *plane) checks() []httpx.Check {
	return []httpx.Check{
		{Name: "control_database", Run: p.pool.Ping},
		{Name: "identity_customers", Run: p.customers.ids.Health},
		{Name: "identity_operators", Run: p.operators.ids.Health},
		{Name: "provisioner", Run: p.provisionerAlive},
	}
}

func (p *plane) provisionerAlive(ctx context.Context) error {
	seconds, err := store.New(p.pool).ProvisionerSeen(ctx)
	if errors.Is(err, pgx.ErrNoRows) {
		return errors.New("the provisioner has never shown itself")
	}
	if err != nil {
		return fmt.Errorf("looking for the provisioner: %w", err)
	}
	if silent := time.Duration(seconds * float64(time.Second)); silent > provisionerSilence {
		return fmt.Errorf("the provisioner has been silent for %s", silent.Round(time.Second))
	}
	return nil
}
