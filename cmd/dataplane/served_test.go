package main

import (
	"context"
	"crypto/rand"
	"errors"
	"log/slog"
	"slices"
	"sync"
	"testing"
	"time"

	"golang.org/x/mod/sumdb/note"

	"github.com/caresphere/caresphere/dataplane/access"
	"github.com/caresphere/caresphere/internal/obs"
	"github.com/caresphere/caresphere/internal/phi"
	"github.com/caresphere/caresphere/internal/routes"
	"github.com/caresphere/caresphere/internal/tenantdb"
	"github.com/caresphere/caresphere/tenants"
)

// refusing is a cell that lets nobody in.
type refusing struct{}

func (refusing) Login(context.Context, tenants.ID) (access.Login, error) {
	return access.Login{}, errors.New("the login is refused")
}

func (refusing) Stamp(context.Context, tenants.ID) (tenantdb.Stamp, error) {
	return tenantdb.Stamp{}, errors.New("the cell is away")
}

// dropped notes whose keys are forgotten.
type dropped struct {
	*phi.Cipher
	mu  sync.Mutex
	ids map[tenants.ID]bool
}

func (d *dropped) Drop(tenant tenants.ID) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.ids[tenant] = true
}

func (d *dropped) has(tenant tenants.ID) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.ids[tenant]
}

// TestATenantWithoutConnectionsIsForgotten withdraws the route of a tenant whose login
// was refused already, so that it has no connections: its keys go all the same.
func TestATenantWithoutConnectionsIsForgotten(t *testing.T) {
	sk, vk, err := note.GenerateKey(rand.Reader, "caresphere-route")
	if err != nil {
		t.Fatal(err)
	}
	signer, err := note.NewSigner(sk)
	if err != nil {
		t.Fatal(err)
	}
	verifier, err := note.NewVerifier(vk)
	if err != nil {
		t.Fatal(err)
	}
	store, err := routes.Open(t.TempDir(), verifier)
	if err != nil {
		t.Fatal(err)
	}
	first, second := tenants.NewID(), tenants.NewID()
	version := int64(0)
	publish := func(open ...tenants.ID) {
		t.Helper()
		version++
		table := tenants.RouteTable{Version: version, IssuedAt: time.Now()}
		for i, id := range open {
			table.Routes = append(table.Routes, tenants.Route{Slug: []string{"oak", "elm"}[i], TenantID: id, CellID: "main", Epoch: 1,
				Mode: tenants.GateOpen, NotAfter: time.Now().Add(time.Hour)})
		}
		doc, err := routes.Sign(table, signer)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := store.Put(doc); err != nil {
			t.Fatal(err)
		}
	}
	publish(first, second)
	w := &worker{cfg: settings{CellID: "main"}, routes: store, served: newServed(refusing{})}
	w.door = access.NewDoor(access.NewPools(access.PoolConfig{DSN: "postgres://nobody@127.0.0.1:1/none"}, w.served), access.NewSignals("", time.Second, obs.NewLogger(t.Output(), "test", slog.LevelInfo)))
	defer w.door.Close()
	keys := &dropped{ids: map[tenants.ID]bool{}}
	w.door.Use(keys)
	for _, tenant := range []tenants.ID{first, second} {
		actor := tenants.Actor{Kind: tenants.ActorMember, ID: tenants.NewID(), TenantID: tenant, SessionID: tenants.NewID(), Role: tenants.RoleOwner}
		err := w.door.DoOwn(t.Context(), actor, access.Target{RecordType: "session", RecordID: actor.SessionID}, func(context.Context, *access.Tx) error { return nil })
		if err == nil {
			t.Fatal("a refused login served")
		}
	}
	ctx, stop := context.WithCancel(t.Context())
	var following sync.WaitGroup
	following.Go(func() { w.followRoutes(ctx) })
	defer following.Wait()
	defer stop()
	publish(second)
	await(t, "that the first is forgotten", func() bool { return keys.has(first) })
	if keys.has(second) {
		t.Error("one whose route is there was forgotten")
	}
	publish()
	await(t, "that the second is forgotten", func() bool { return keys.has(second) })
}

func TestWhoWasServedIsRememberedWhileSomethingIsKept(t *testing.T) {
	s := newServed(refusing{})
	open, closed := tenants.NewID(), tenants.NewID()
	for _, tenant := range []tenants.ID{open, closed} {
		_, _ = s.Login(t.Context(), tenant)
	}
	isOpen := func(tenant tenants.ID) bool { return tenant == open }
	now := time.Now()
	for _, c := range []struct {
		after time.Duration
		want  []tenants.ID
	}{{0, []tenants.ID{closed}}, {servedFor - time.Minute, []tenants.ID{closed}}, {servedFor + time.Minute, []tenants.ID{closed}}, {servedFor + time.Minute, nil}} {
		if got := s.withdrawn(now.Add(c.after), isOpen); !slices.Equal(got, c.want) {
			t.Errorf("after %s: %v, want %v", c.after, got, c.want)
		}
	}
	if got := s.withdrawn(now.Add(3*servedFor), func(tenants.ID) bool { return false }); !slices.Equal(got, []tenants.ID{open}) {
		t.Errorf("one that was open all the time: %v", got)
	}
}
