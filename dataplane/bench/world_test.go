package bench_test

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"testing"
	"time"

	"github.com/gofiber/fiber/v2"
	"golang.org/x/mod/sumdb/note"

	"github.com/caresphere/caresphere/dataplane/access"
	"github.com/caresphere/caresphere/dataplane/dptest"
	"github.com/caresphere/caresphere/dataplane/records/clients"
	"github.com/caresphere/caresphere/dataplane/router"
	"github.com/caresphere/caresphere/internal/httpx"
	"github.com/caresphere/caresphere/internal/obs"
	"github.com/caresphere/caresphere/internal/phi"
	"github.com/caresphere/caresphere/internal/routes"
	"github.com/caresphere/caresphere/internal/testkit"
	"github.com/caresphere/caresphere/tenants"
)

// world is a router in front of a worker in front of a durable PostgreSQL, with
// one tenant, its owner and one client. Only whose session a token is, is a stub's
// word: a worker asks Kratos once in seconds, and Kratos is not what is measured.
type world struct {
	cell   *dptest.Cell
	tenant *dptest.Tenant
	client tenants.ID
	router string
	front  *tls.Config
}

// connections is how many the tenant and the bare twin each have: the same for both.
const connections = 16

func newWorld(b *testing.B) *world {
	b.Helper()
	pg := testkit.DurablePostgres(b)
	w := &world{cell: dptest.Start(b, dptest.WithDatabase(pg.CellDB), dptest.WithRequests(connections), dptest.WithLog(io.Discard))}
	w.tenant = w.cell.Tenant(b, "harbor", tenants.Residential)
	birth, err := phi.ParseDate(phi.NewText("1948-03-11"))
	if err != nil {
		b.Fatal(err)
	}
	c, err := clients.Service{Door: w.cell.Door}.Create(b.Context(), w.tenant.Actor(b, w.tenant.Owner), access.Once{}, clients.NewClient{
		FacilityID: w.tenant.North, Name: clients.Name{Given: phi.NewText("Rosa"), Family: phi.NewText("Alvarez")}, BirthDate: birth,
		RecordNumber: phi.NewText("MRN-1"), Phone: phi.NewText("+1 312 555 0100"), Address: phi.NewText("12 Lake Street, Chicago IL")})
	if err != nil {
		b.Fatal(err)
	}
	w.client = c.ID
	w.startRouter(b)
	return w
}

func (w *world) startRouter(b *testing.B) {
	b.Helper()
	ca := testkit.CA(b)
	mine := ca.Issue(b, "router")
	private, public, err := note.GenerateKey(rand.Reader, "caresphere-route")
	must(b, err)
	signer, err := note.NewSigner(private)
	must(b, err)
	verifier, err := note.NewVerifier(public)
	must(b, err)
	store, err := routes.Open(b.TempDir(), verifier)
	must(b, err)
	route, _ := w.cell.Routes.BySlug(w.tenant.Slug)
	doc, err := routes.Sign(tenants.RouteTable{Version: 1, IssuedAt: time.Now(), Routes: []tenants.Route{route},
		Workers: []tenants.Worker{{ID: "worker-a", CellID: dptest.CellID, URL: w.cell.URL}}}, signer)
	must(b, err)
	_, err = store.Put(doc)
	must(b, err)
	watch, flush, err := obs.Setup(context.Background(), "router", obs.Config{LogTo: io.Discard})
	must(b, err)
	b.Cleanup(func() { _ = flush(context.Background()) })
	workers, err := httpx.ClientTLS(ca.Path(), mine.Cert, mine.Key, "dataplane")
	must(b, err)
	r := router.New(router.Config{Routes: store, Obs: watch, WorkerTLS: workers, ControlTLS: workers, ControlPlane: "https://127.0.0.1:1",
		HealthEvery: 100 * time.Millisecond, Refresh: func(context.Context) error { return nil }})
	front, err := httpx.ServerTLS(mine.Cert, mine.Key)
	must(b, err)
	background, end := context.WithCancel(context.Background())
	ran := make(chan struct{})
	go func() { r.Run(background); close(ran) }()
	b.Cleanup(func() { end(); <-ran })
	w.router = serve(b, func(ctx context.Context, ln net.Listener) error { return httpx.Serve(ctx, r.App(), ln, front) })
	w.front = &tls.Config{RootCAs: ca.Pool(), ServerName: "localhost", MinVersion: tls.VersionTLS12}
}

// serve runs a server on a port of its own until the benchmark ends.
func serve(b *testing.B, run func(context.Context, net.Listener) error) (addr string) {
	b.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	must(b, err)
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() { _ = run(ctx, ln); close(ended) }()
	b.Cleanup(func() { stop(); <-ended })
	return ln.Addr().String()
}

// get is the owner's GET below the tenant's prefix, as the browser's next program
// would send it; post the same with a body.
func (w *world) get(path string) []byte {
	return fmt.Appendf(nil, "GET /t/%s/v1%s HTTP/1.1\r\nHost: localhost\r\nUser-Agent: bench\r\nAuthorization: Bearer %s\r\nAccept: application/json\r\n\r\n",
		w.tenant.Slug, path, w.tenant.Owner.Token)
}

func (w *world) post(path, body string) []byte {
	return fmt.Appendf(nil, "POST /t/%s/v1%s HTTP/1.1\r\nHost: localhost\r\nUser-Agent: bench\r\nAuthorization: Bearer %s\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s",
		w.tenant.Slug, path, w.tenant.Owner.Token, len(body), body)
}

// always sends the same request.
func always(request []byte) func(int, int) []byte { return func(int, int) []byte { return request } }

// plain is the app that a beginner's guide has: no limits, guards or observation.
func plain() *fiber.App {
	return fiber.New(fiber.Config{DisableStartupMessage: true}) //nolint:forbidigo // the bare minimum that ours is held against
}
