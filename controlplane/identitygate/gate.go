package identitygate

import (
	"context"
	"crypto/tls"
	"net/http"
	"strings"
	"time"

	"github.com/gofiber/fiber/v2"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/caresphere/caresphere/controlplane/attempts"
	"github.com/caresphere/caresphere/controlplane/session"
	"github.com/caresphere/caresphere/internal/httpx"
	"github.com/caresphere/caresphere/internal/identity"
	"github.com/caresphere/caresphere/tenants"
)

// Identities is what the guards ask of Kratos beside the proxied requests.
type Identities interface {
	Whoami(ctx context.Context, cred identity.Credential) (identity.Session, error)
	Factors(ctx context.Context, id tenants.ID) (identity.Factors, error)
	Flow(ctx context.Context, kind identity.FlowKind, id, cookie string) (identity.Flow, error)
	EndSession(ctx context.Context, session tenants.ID) error
}

// Counter counts tries and remembers one-time codes; see attempts.Counter.
type Counter interface {
	Take(ctx context.Context, r attempts.Rule, subject string) error
	Clear(ctx context.Context, r attempts.Rule, subject string) error
	UseCode(ctx context.Context, identity tenants.ID, code string) (first bool, err error)
	Fingerprint(value string) string
}

// Config is what a realm's gate is made of.
type Config struct {
	Realm session.Realm
	// Origin is the realm's own, as "https://localhost:8443"; SetupPath the page
	// on it that shows settings flows.
	Origin, SetupPath string
	// KratosURL is the public API's base address, TLS the client configuration for it.
	KratosURL string
	TLS       *tls.Config
	IDs       Identities
	Counter   Counter
	Rules     attempts.Rules
	// Pool is the control database.
	Pool *pgxpool.Pool
	// Recovered is told of every session that began with a mailed code.
	Recovered func(ctx context.Context, s identity.Session, info session.Info) error
	// Logins is how many passwords are hashed at a time; 4 if zero. One costs a
	// third of a second of a core.
	Logins int
}

// loginWait is how long a password waits for its turn.
const loginWait = 5 * time.Second

// Gate is the guarded proxy of one realm.
type Gate struct {
	cfg    Config
	kratos *upstream
	turns  chan struct{}
}

// New returns the gate of a realm.
func New(cfg Config) (*Gate, error) {
	kratos, err := newUpstream(cfg.KratosURL, cfg.TLS)
	if err != nil {
		return nil, err
	}
	if cfg.Logins <= 0 {
		cfg.Logins = 4
	}
	return &Gate{cfg: cfg, kratos: kratos, turns: make(chan struct{}, cfg.Logins)}, nil
}

// Mount puts the gate under Prefix.
func (g *Gate) Mount(app fiber.Router) { app.All(Prefix+"*", g.Serve) }

// Serve answers one request under Prefix. It returns errors of every kind that a
// guard refuses with; a page may be shown for them in place of a problem.
func (g *Gate) Serve(c *fiber.Ctx) error {
	rt, ok := find(c.Method(), strings.TrimPrefix(c.Path(), Prefix))
	if !ok {
		return tenants.NotFound()
	}
	x := &exchange{gate: g, route: rt, ctx: httpx.Context(c)}
	x.info.IP, x.info.Device, x.info.RequestID = httpx.RequestInfo(x.ctx)
	query, err := parseQuery(rt, string(c.Request().URI().QueryString()))
	if err != nil {
		return err
	}
	if rt.action == toForm {
		return c.Redirect(g.cfg.SetupPath+"?"+query.Encode(), http.StatusSeeOther)
	}
	if x.cred, err = Credential(c, g.cfg.Realm); err != nil {
		return err
	}
	x.request = request{method: c.Method(), path: strings.TrimPrefix(c.Path(), Prefix), query: query, cred: x.cred,
		json: wantsJSON(c), origin: c.Get(fiber.HeaderOrigin), info: x.info}
	a, err := x.run(c)
	if err != nil {
		return err
	}
	return a.write(c)
}

// wantsJSON tells which of its two kinds of answer Kratos is asked for.
func wantsJSON(c *fiber.Ctx) bool {
	return c.Accepts(fiber.MIMETextHTML, fiber.MIMEApplicationJSON) == fiber.MIMEApplicationJSON ||
		strings.HasPrefix(c.Get(fiber.HeaderContentType), fiber.MIMEApplicationJSON)
}

func (a answer) write(c *fiber.Ctx) error {
	for name, v := range a.header {
		c.Set(name, v[0])
	}
	// A self-service answer is never kept, whatever Kratos thinks of it.
	if !strings.HasSuffix(c.Path(), ".js") {
		c.Set(fiber.HeaderCacheControl, "no-store")
	}
	for _, k := range a.cookies {
		c.Response().Header.Add(fiber.HeaderSetCookie, k.String())
	}
	return c.Status(a.status).Send(a.body)
}

// turn waits for a place among those who hash passwords.
func (g *Gate) turn(ctx context.Context) (release func(), err error) {
	t := time.NewTimer(loginWait)
	defer t.Stop()
	select {
	case g.turns <- struct{}{}:
		return func() { <-g.turns }, nil
	case <-t.C:
	case <-ctx.Done():
	}
	e := tenants.NewError(tenants.KindUnavailable, "many people are signing in: try again in a moment")
	e.RetryAfter = 3 * time.Second
	return nil, e
}
