package bench_test

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"testing"
	"time"

	"github.com/gofiber/fiber/v2"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/caresphere/caresphere/internal/pg"
	"github.com/caresphere/caresphere/internal/testkit"
	"github.com/caresphere/caresphere/tenants"
)

// BenchmarkReadPHI reads one client: session, authorization and gate checked,
// row-level security under a signed context, eight fields opened, the audit entry
// durable before the answer leaves. Beside it plain Fiber and pgx: the same row in
// the clear with a synced audit insert in one transaction, and the row alone.
func BenchmarkReadPHI(b *testing.B) {
	w := newWorld(b)
	twin, conf := w.startTwin(b)
	compare(b,
		contender{name: "caresphere", addr: w.router, tls: w.front, request: always(w.get("/clients/" + w.client.String())), status: " 200 "},
		contender{name: "bare_audited", addr: twin, tls: conf, request: always(bareGet("/audited/" + w.client.String())), status: " 200 "},
		contender{name: "bare_read", addr: twin, tls: conf, request: always(bareGet("/read/" + w.client.String())), status: " 200 "},
	)
}

// BenchmarkWriteNote writes a shift note about a client, beside plain Fiber and
// pgx: one insert of the note in the clear and one of an audit row, committed.
func BenchmarkWriteNote(b *testing.B) {
	w := newWorld(b)
	twin, conf := w.startTwin(b)
	const note = `{"shift":"night","body":"Slept well, took fluids, was turned at two and at four. No complaints."}`
	compare(b,
		contender{name: "caresphere", addr: w.router, tls: w.front, status: " 201 ",
			request: always(w.post("/clients/"+w.client.String()+"/notes", note))},
		contender{name: "bare_audited", addr: twin, tls: conf, status: " 201 ",
			request: always(fmt.Appendf(nil, "POST /notes/%s HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s", w.client, len(note), note))},
	)
}

func bareGet(path string) []byte {
	return []byte("GET " + path + " HTTP/1.1\r\nHost: localhost\r\n\r\n")
}

// bareClient is a client in the clear.
type bareClient struct {
	ID           tenants.ID `json:"id"`
	FacilityID   tenants.ID `json:"facility_id"`
	Status       string     `json:"status"`
	Given        string     `json:"given"`
	Family       string     `json:"family"`
	BirthDate    string     `json:"birth_date"`
	RecordNumber string     `json:"record_number"`
	Phone        string     `json:"phone"`
	Address      string     `json:"address"`
	CreatedAt    time.Time  `json:"created_at"`
}

type bareNote struct {
	ID    tenants.ID `json:"id"`
	Shift string     `json:"shift"`
	Body  string     `json:"body"`
}

const (
	selectBare = `SELECT id, facility_id, status, given, family, birth_date, record_number, phone, address, created_at FROM bare.client WHERE id = $1`
	insertBare = `INSERT INTO bare.audit (id, actor, action, record_id, ip, device) VALUES ($1, $2, $3, $4, $5, $6)`
	insertNote = `INSERT INTO bare.note (id, client_id, shift, body) VALUES ($1, $2, $3, $4)`
)

// startTwin serves the bare minimum from the same PostgreSQL, with as
// many connections as the tenant has and the same TLS on both sides.
func (w *world) startTwin(b *testing.B) (string, *tls.Config) {
	b.Helper()
	for _, sql := range []string{
		"CREATE SCHEMA bare",
		`CREATE TABLE bare.client (id uuid PRIMARY KEY, facility_id uuid NOT NULL, status text NOT NULL, given text NOT NULL, family text NOT NULL,
			birth_date text NOT NULL, record_number text, phone text, address text, created_at timestamptz NOT NULL DEFAULT now())`,
		`CREATE TABLE bare.note (id uuid PRIMARY KEY, client_id uuid NOT NULL REFERENCES bare.client, shift text NOT NULL, body text NOT NULL, at timestamptz NOT NULL DEFAULT now())`,
		`CREATE TABLE bare.audit (id uuid PRIMARY KEY, at timestamptz NOT NULL DEFAULT now(), actor uuid NOT NULL, action text NOT NULL, record_id text NOT NULL, ip text NOT NULL, device text NOT NULL)`,
		"GRANT USAGE ON SCHEMA bare TO cell_worker",
		"GRANT SELECT, INSERT ON ALL TABLES IN SCHEMA bare TO cell_worker",
	} {
		w.cell.Exec(b, sql)
	}
	w.cell.Exec(b, `INSERT INTO bare.client VALUES ($1, $2, 'active', 'Rosa', 'Alvarez', '1948-03-11', 'MRN-1', '+1 312 555 0100', '12 Lake Street, Chicago IL')`,
		w.client, w.tenant.North)
	pool, err := pg.Open(b.Context(), w.cell.DB.DSN("cell_worker"), pg.Options{MaxConns: connections})
	must(b, err)
	b.Cleanup(pool.Close)
	app := plain()
	app.Get("/read/:id", func(c *fiber.Ctx) error {
		id, err := tenants.ParseID(c.Params("id"))
		if err != nil {
			return err
		}
		out, err := readBare(c.UserContext(), pool, id)
		if err != nil {
			return err
		}
		return c.JSON(out)
	})
	actor := tenants.NewID()
	app.Get("/audited/:id", func(c *fiber.Ctx) error {
		id, err := tenants.ParseID(c.Params("id"))
		if err != nil {
			return err
		}
		var out bareClient
		err = pgx.BeginFunc(c.UserContext(), pool, func(tx pgx.Tx) (err error) {
			if out, err = readBare(c.UserContext(), tx, id); err != nil {
				return err
			}
			_, err = tx.Exec(c.UserContext(), insertBare, tenants.NewID(), actor, "client.read", id.String(), c.IP(), c.Get("User-Agent"))
			return err
		})
		if err != nil {
			return err
		}
		return c.JSON(out)
	})
	app.Post("/notes/:id", func(c *fiber.Ctx) error { return writeBare(c, pool, actor) })
	ca := testkit.CA(b)
	pair := ca.Issue(b, "bare")
	cert, err := tls.LoadX509KeyPair(pair.Cert, pair.Key)
	must(b, err)
	addr := serve(b, func(ctx context.Context, ln net.Listener) error {
		go func() { <-ctx.Done(); _ = app.Shutdown() }()
		return app.Listener(tls.NewListener(ln, &tls.Config{Certificates: []tls.Certificate{cert}, MinVersion: tls.VersionTLS12}))
	})
	return addr, &tls.Config{RootCAs: ca.Pool(), ServerName: "localhost", MinVersion: tls.VersionTLS12}
}

type queryer interface {
	QueryRow(ctx context.Context, sql string, args ...any) pgx.Row
}

func readBare(ctx context.Context, q queryer, id tenants.ID) (c bareClient, err error) {
	err = q.QueryRow(ctx, selectBare, id).Scan(&c.ID, &c.FacilityID, &c.Status, &c.Given, &c.Family, &c.BirthDate, &c.RecordNumber, &c.Phone, &c.Address, &c.CreatedAt)
	return c, err
}

func writeBare(c *fiber.Ctx, pool *pgxpool.Pool, actor tenants.ID) error {
	client, err := tenants.ParseID(c.Params("id"))
	if err != nil {
		return err
	}
	n := bareNote{ID: tenants.NewID()}
	if err := c.BodyParser(&n); err != nil {
		return err
	}
	err = pgx.BeginFunc(c.UserContext(), pool, func(tx pgx.Tx) error {
		if _, err := tx.Exec(c.UserContext(), insertNote, n.ID, client, n.Shift, n.Body); err != nil {
			return err
		}
		_, err := tx.Exec(c.UserContext(), insertBare, tenants.NewID(), actor, "note.create", n.ID.String(), c.IP(), c.Get("User-Agent"))
		return err
	})
	if err != nil {
		return err
	}
	return c.Status(fiber.StatusCreated).JSON(n)
}
