package access_test

import (
	"context"
	"sync/atomic"
	"testing"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/caresphere/caresphere/dataplane/access"
	"github.com/caresphere/caresphere/dataplane/dptest"
	"github.com/caresphere/caresphere/dataplane/records/clients"
	"github.com/caresphere/caresphere/internal/pg"
	"github.com/caresphere/caresphere/internal/phi"
	"github.com/caresphere/caresphere/tenants"
)

// bench is a tenant with a client, and the owner's actor.
func bench(b *testing.B) (*dptest.Cell, clients.Service, tenants.Actor, tenants.ID) {
	b.Helper()
	cell := dptest.Start(b)
	org := cell.Tenant(b, "harbor", tenants.Residential)
	actor := org.Actor(b, org.Owner)
	s := clients.Service{Door: cell.Door}
	birth, err := phi.ParseDate(phi.NewText("1948-03-11"))
	if err != nil {
		b.Fatal(err)
	}
	c, err := s.Create(b.Context(), actor, access.Once{}, clients.NewClient{FacilityID: org.North,
		Name: clients.Name{Given: phi.NewText("Rosa"), Family: phi.NewText("Alvarez")}, BirthDate: birth,
		RecordNumber: phi.NewText("MRN-1"), Phone: phi.NewText("1"), Address: phi.NewText("12 Lake Street")})
	if err != nil {
		b.Fatal(err)
	}
	return cell, s, actor, c.ID
}

// BenchmarkReadPHI reads one client through the door (session and authorization
// checked, row-level security under a signed context, eight fields opened, an audit
// entry committed) beside what each layer would cost alone: the same row by a plain
// prepared statement, and that with a committed insert.
func BenchmarkReadPHI(b *testing.B) {
	cell, s, actor, id := bench(b)
	plain, err := pg.Open(b.Context(), cell.DB.DSN("cell_owner"), pg.Options{MaxConns: 4})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(plain.Close)
	table := "bench_" + tenants.NewID().Hex()
	for _, sql := range []string{
		"CREATE TABLE public." + table + " (id uuid PRIMARY KEY, body bytea)",
		"CREATE TABLE public." + table + "_log (id uuid, action text)",
	} {
		if _, err := plain.Exec(b.Context(), sql); err != nil {
			b.Fatal(err)
		}
	}
	if _, err := plain.Exec(b.Context(), "INSERT INTO public."+table+" VALUES ($1, $2)", id, make([]byte, 600)); err != nil {
		b.Fatal(err)
	}
	b.Run("door", func(b *testing.B) {
		parallel(b, func(ctx context.Context) error {
			_, err := s.Get(ctx, actor, id)
			return err
		})
	})
	b.Run("plain", func(b *testing.B) {
		parallel(b, func(ctx context.Context) error { return readPlain(ctx, plain, table, id) })
	})
	b.Run("plain_and_logged", func(b *testing.B) {
		parallel(b, func(ctx context.Context) error {
			if err := readPlain(ctx, plain, table, id); err != nil {
				return err
			}
			_, err := plain.Exec(ctx, "INSERT INTO public."+table+"_log VALUES ($1, 'read')", id)
			return err
		})
	})
}

func readPlain(ctx context.Context, pool *pgxpool.Pool, table string, id tenants.ID) error {
	var body []byte
	return pool.QueryRow(ctx, "SELECT body FROM public."+table+" WHERE id = $1", id).Scan(&body)
}

func parallel(b *testing.B, f func(context.Context) error) {
	b.Helper()
	var failed atomic.Pointer[error]
	b.SetParallelism(2)
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			if err := f(context.Background()); err != nil {
				failed.Store(&err)
				return
			}
		}
	})
	if err := failed.Load(); err != nil {
		b.Fatal(*err)
	}
}
