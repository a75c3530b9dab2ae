package main

import (
	"context"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/riverqueue/river"
	"github.com/riverqueue/river/riverdriver/riverpgxv5"

	"github.com/caresphere/caresphere/controlplane/attempts"
	"github.com/caresphere/caresphere/controlplane/baa"
	"github.com/caresphere/caresphere/controlplane/billing"
	"github.com/caresphere/caresphere/controlplane/fleet"
	"github.com/caresphere/caresphere/controlplane/isolation"
	"github.com/caresphere/caresphere/controlplane/members"
	"github.com/caresphere/caresphere/controlplane/outbox"
	"github.com/caresphere/caresphere/controlplane/placement"
	"github.com/caresphere/caresphere/controlplane/rotation"
	"github.com/caresphere/caresphere/controlplane/session"
	"github.com/caresphere/caresphere/controlplane/signup"
	"github.com/caresphere/caresphere/controlplane/web"
	"github.com/caresphere/caresphere/internal/httpx"
	"github.com/caresphere/caresphere/internal/mail"
	"github.com/caresphere/caresphere/internal/obs"
	"github.com/caresphere/caresphere/internal/payments"
	"github.com/caresphere/caresphere/internal/pg"
	"github.com/caresphere/caresphere/internal/routes"
	"github.com/caresphere/caresphere/tenants"
)

// plane is the control plane with everything wired.
type plane struct {
	settings   settings
	obs        *obs.Obs
	pool       *pgxpool.Pool
	counter    *attempts.Counter
	customers  *realm
	operators  *realm
	outbox     *outbox.Box
	sender     mail.Sender
	courierKey string

	members    *members.Service
	signups    *signup.Service
	agreements *baa.Service
	fleet      *fleet.Service
	isolation  *isolation.Service
	rotations  *rotation.Service
	feed       *placement.Feed
	workers    *placement.Workers
	reconciler *placement.Reconciler
}

// newPlane opens the database and wires the parts. It starts nothing.
func newPlane(ctx context.Context, s settings, o *obs.Obs) (*plane, error) {
	if err := s.check(); err != nil {
		return nil, err
	}
	p := &plane{settings: s, obs: o}
	var err error
	if p.pool, err = pg.Open(ctx, s.ControlDSN, pg.Options{ApplicationName: "controlplane", MaxConns: 16}); err != nil {
		return nil, fmt.Errorf("opening the control database: %w", err)
	}
	for _, part := range []func() error{p.wireIdentity, p.wireMail, p.wireOrganizations} {
		if err := part(); err != nil {
			p.pool.Close()
			return nil, err
		}
	}
	return p, nil
}

func (p *plane) wireIdentity() error {
	s := p.settings
	secret, err := readSecret(s.Secret)
	if err != nil {
		return err
	}
	if p.counter, err = attempts.New(p.pool, secret); err != nil {
		return err
	}
	key, err := readSecret(s.CourierKey)
	if err != nil {
		return err
	}
	p.courierKey = string(key)
	conf, err := httpx.ClientTLS(s.TLSCA, "", "")
	if err != nil {
		return err
	}
	p.customers, err = newRealm(realmConfig{name: session.Customer, origin: s.PublicOrigin, publicURL: s.KratosPublicURL, adminURL: s.KratosAdminURL,
		home: "/organization", nav: []web.NavItem{{Path: "/organization", Label: "Organization"}, {Path: "/baa", Label: "Agreement"}, {Path: "/account", Label: "Account"}},
	}, s, conf, p.pool, p.counter)
	if err != nil {
		return err
	}
	p.operators, err = newRealm(realmConfig{name: session.Operator, origin: s.OperatorOrigin, publicURL: s.OpsKratosPublicURL, adminURL: s.OpsKratosAdminURL,
		home: "/organizations", nav: []web.NavItem{{Path: "/organizations", Label: "Organizations"}, {Path: "/isolation", Label: "Isolation"}, {Path: "/account", Label: "Account"}},
	}, s, conf, p.pool, p.counter)
	if err != nil {
		return err
	}
	p.members = members.New(p.pool, p.customers.ids, s.PublicOrigin)
	p.signups = signup.New(p.pool, p.members, p.counter, p.customers.rules, members.SignUpLifetime, s.PublicOrigin)
	p.customers.site.Progress = p.members
	return nil
}

func (p *plane) wireMail() error {
	p.outbox = outbox.New(p.pool)
	if p.settings.Mail == "outbox" {
		return nil
	}
	sender, err := mail.OpenSMTP(p.settings.Mail, nil)
	if err != nil {
		return err
	}
	p.sender = sender
	return nil
}

func (p *plane) wireOrganizations() error {
	s := p.settings
	jobs, err := river.NewClient(riverpgxv5.New(p.pool), &river.Config{Logger: p.obs.Log})
	if err != nil {
		return fmt.Errorf("the job queue: %w", err)
	}
	routeSigner, _, err := readSigner(s.RouteKey)
	if err != nil {
		return err
	}
	baaSigner, baaVerifier, err := readSigner(s.BAAKey)
	if err != nil {
		return err
	}
	var stripeKey []byte
	if s.StripeKey != "" {
		if stripeKey, err = readSecret(s.StripeKey); err != nil {
			return err
		}
	}
	stripe := payments.Config{StripeKey: strings.TrimSpace(string(stripeKey)), StripeURL: s.StripeURL}
	if s.StripeURL != "" {
		if stripe.TLS, err = httpx.ClientTLS(s.TLSCA, "", ""); err != nil {
			return err
		}
	}
	provider, err := payments.Open(stripe)
	if err != nil {
		return fmt.Errorf("the payment provider: %w", err)
	}
	gates := placement.NewGates(jobs, nil)
	p.workers = placement.NewWorkers(p.pool)
	p.reconciler = placement.NewReconciler(p.pool, gates, p.workers)
	p.feed = placement.NewFeed(p.pool, func(t tenants.RouteTable) ([]byte, error) { return routes.Sign(t, routeSigner) })
	p.fleet = fleet.New(p.pool, gates, jobs)
	p.isolation = isolation.NewService(p.pool, jobs)
	p.rotations = rotation.NewService(p.pool, jobs)
	p.agreements, err = baa.New(baa.Config{Pool: p.pool, Gate: gates, Subscriptions: billing.New(p.pool, provider), Jobs: jobs,
		Platform: s.Platform, Signer: baaSigner, Verifier: baaVerifier})
	if err != nil {
		return fmt.Errorf("agreements: %w", err)
	}
	return nil
}

// Close lets go of the database.
func (p *plane) Close() { p.pool.Close() }
