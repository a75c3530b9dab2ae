package main

import (
	"crypto/tls"
	"fmt"

	"github.com/gofiber/fiber/v2"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/caresphere/caresphere/controlplane/attempts"
	"github.com/caresphere/caresphere/controlplane/identitygate"
	"github.com/caresphere/caresphere/controlplane/session"
	"github.com/caresphere/caresphere/controlplane/web"
	"github.com/caresphere/caresphere/internal/identity"
)

// realm is what belongs to one group of people: the customers or the operators.
type realm struct {
	name   session.Realm
	origin string
	ids    *identity.Client
	rules  attempts.Rules
	gate   *session.Gate
	kratos *identitygate.Gate
	site   *web.Site
}

type realmConfig struct {
	name                session.Realm
	origin              string
	publicURL, adminURL string
	home                string
	nav                 []web.NavItem
}

func newRealm(cfg realmConfig, s settings, conf *tls.Config, pool *pgxpool.Pool, counter *attempts.Counter) (*realm, error) {
	r := &realm{name: cfg.name, origin: cfg.origin, rules: attempts.DefaultRules(string(cfg.name), s.IPLimitFactor)}
	var err error
	if r.ids, err = identity.Open(identity.Config{PublicURL: cfg.publicURL, AdminURL: cfg.adminURL, TLS: conf}); err != nil {
		return nil, err
	}
	r.gate = session.NewGate(cfg.name, r.ids, pool, session.DefaultLimits)
	r.kratos, err = identitygate.New(identitygate.Config{
		Realm: cfg.name, Origin: cfg.origin, SetupPath: "/account/setup", KratosURL: cfg.publicURL, TLS: conf,
		IDs: r.ids, Counter: counter, Rules: r.rules, Pool: pool,
		Recovered: r.gate.Recovered,
	})
	if err != nil {
		return nil, err
	}
	renderer, err := web.NewRenderer(cfg.name, cfg.nav, s.Dev)
	if err != nil {
		return nil, fmt.Errorf("pages of the %s realm: %w", cfg.name, err)
	}
	r.site = &web.Site{Renderer: renderer, Gate: r.gate, Flows: r.ids, Home: cfg.home}
	return r, nil
}

// mount serves what both realms have on their origin.
func (r *realm) mount(app *fiber.App) {
	r.kratos.Mount(app)
	r.site.MountAssets(app)
	r.site.MountIdentity(app)
}
