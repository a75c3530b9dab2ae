package phi_test

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/caresphere/caresphere/internal/kms/driver"
	"github.com/caresphere/caresphere/internal/phi"
	"github.com/caresphere/caresphere/tenants"
)

func TestDisabledKeyRefusesAfterDrop(t *testing.T) {
	r := newRig(t)
	c, tenant, other := r.cipher(t, phi.Options{}), r.tenant(t), r.tenant(t)
	p, q := place(tenant), place(other)
	sealed, otherSealed := seal(t, c, p, marker), seal(t, c, q, "other")
	key := driver.KeyName(tenant)
	if err := r.kms.Disable(t.Context(), key); err != nil {
		t.Fatal(err)
	}
	opens(t, c, p, sealed, marker) // the cached key serves until it is dropped
	c.Drop(tenant)
	_, err := c.Open(t.Context(), p, sealed)
	refused(t, "open", err, tenants.KindGateClosed)
	_, err = c.Seal(t.Context(), p, phi.NewText(marker))
	refused(t, "seal", err, tenants.KindGateClosed)
	_, err = c.BlindIndex(t.Context(), tenant, "a", phi.NewText(marker))
	refused(t, "index", err, tenants.KindGateClosed)
	refused(t, "warm", c.Warm(t.Context(), tenant, phi.PurposeField), tenants.KindGateClosed)
	opens(t, c, q, otherSealed, "other")
	if err := r.kms.Enable(t.Context(), key); err != nil {
		t.Fatal(err)
	}
	opens(t, c, p, sealed, marker)
	if err := c.Warm(t.Context(), tenant, phi.PurposeField, phi.PurposeBlind, phi.PurposeCredential); err != nil {
		t.Fatal(err)
	}
	if err := r.kms.Shred(t.Context(), key); err != nil {
		t.Fatal(err)
	}
	c.Drop(tenant)
	_, err = c.Open(t.Context(), p, sealed)
	refused(t, "open after shredding", err, tenants.KindGateClosed)
}

func TestKeyServiceAway(t *testing.T) {
	r := newRig(t)
	c, tenant, cold := r.cipher(t, phi.Options{}), r.tenant(t), r.tenant(t)
	p := place(tenant)
	sealed := seal(t, c, p, marker)
	r.kms.away.Store(true)
	opens(t, c, p, sealed, marker)
	_ = seal(t, c, p, "still")
	_, err := c.Seal(t.Context(), place(cold), phi.NewText(marker))
	refused(t, "a tenant that is not cached", err, tenants.KindUnavailable)
	c.Drop(tenant)
	_, err = c.Open(t.Context(), p, sealed)
	refused(t, "a dropped key", err, tenants.KindUnavailable)
	r.kms.away.Store(false)
	opens(t, c, p, sealed, marker)
	_ = seal(t, c, place(cold), "now")
}

func TestRetiredVersionIsAnIntegrityFault(t *testing.T) {
	r := newRig(t)
	c, tenant := r.cipher(t, phi.Options{}), r.tenant(t)
	p := place(tenant)
	sealed := seal(t, c, p, marker)
	key := driver.KeyName(tenant)
	if _, err := r.kms.Rotate(t.Context(), key); err != nil {
		t.Fatal(err)
	}
	c.Drop(tenant)
	opens(t, c, p, sealed, marker)
	if err := r.kms.Retire(t.Context(), key, 2); err != nil {
		t.Fatal(err)
	}
	c.Drop(tenant)
	_, err := c.Open(t.Context(), p, sealed)
	refused(t, "a key whose wrap was forgotten", err, tenants.KindIntegrity)
}

func TestManyWhoWantOneKeyAskOnce(t *testing.T) {
	r := newRig(t)
	c, tenant := r.cipher(t, phi.Options{}), r.tenant(t)
	p := place(tenant)
	sealed := seal(t, c, p, marker)
	c.Drop(tenant)
	r.kms.unwraps.Store(0)
	r.kms.hold, r.kms.holding = make(chan struct{}), make(chan struct{}, 1000)
	impatient, cancel := context.WithCancel(t.Context())
	var all sync.WaitGroup
	all.Go(func() {
		if _, err := c.Open(impatient, p, sealed); !tenants.IsKind(err, tenants.KindUnavailable) || !errors.Is(err, context.Canceled) {
			t.Errorf("one who went away: %v", err)
		}
	})
	<-r.kms.holding // the load is under way, begun by the one who goes away
	for range 50 {
		all.Go(func() {
			if _, err := c.Open(t.Context(), p, sealed); err != nil {
				t.Error(err)
			}
		})
	}
	cancel()
	close(r.kms.hold)
	all.Wait()
	if n := r.kms.unwraps.Load(); n != 1 {
		t.Errorf("the key service was asked %d times", n)
	}
}

// TestDropBeatsALoadUnderWay: the key service answers before a gate closes, the
// answer arrives after the drop: it is not kept and not used.
func TestDropBeatsALoadUnderWay(t *testing.T) {
	r := newRig(t)
	c, tenant := r.cipher(t, phi.Options{}), r.tenant(t)
	p := place(tenant)
	sealed := seal(t, c, p, marker)
	c.Drop(tenant)
	r.kms.hold, r.kms.holding = make(chan struct{}), make(chan struct{}, 10)
	result := make(chan error)
	go func() {
		_, err := c.Open(context.Background(), p, sealed)
		result <- err
	}()
	<-r.kms.holding
	if err := r.kms.Disable(t.Context(), driver.KeyName(tenant)); err != nil {
		t.Fatal(err)
	}
	c.Drop(tenant)
	close(r.kms.hold)
	refused(t, "the open that was under way", <-result, tenants.KindGateClosed)
	_, err := c.Open(t.Context(), p, sealed)
	refused(t, "the next open", err, tenants.KindGateClosed)
}

func TestCachedKeyRunsOut(t *testing.T) {
	r := newRig(t)
	c, tenant := r.cipher(t, phi.Options{CacheFor: 100 * time.Millisecond}), r.tenant(t)
	p := place(tenant)
	sealed := seal(t, c, p, marker)
	if err := r.kms.Disable(t.Context(), driver.KeyName(tenant)); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for {
		_, err := c.Open(t.Context(), p, sealed)
		if tenants.IsKind(err, tenants.KindGateClosed) {
			return
		}
		if err != nil {
			t.Fatal(err)
		}
		select {
		case <-ctx.Done():
			t.Fatal("the key outlived its time")
		case <-tick.C:
		}
	}
}

func TestFullCacheStillServes(t *testing.T) {
	r := newRig(t)
	c := r.cipher(t, phi.Options{CacheSize: 1})
	var all sync.WaitGroup
	for range 16 {
		tenant := r.tenant(t)
		all.Go(func() {
			for range 20 {
				p := place(tenant)
				sealed, err := c.Seal(t.Context(), p, phi.NewText(marker))
				if err != nil {
					t.Error(err)
					return
				}
				if text, err := c.Open(t.Context(), p, sealed); err != nil || !text.Equal(phi.NewText(marker)) {
					t.Error(err)
					return
				}
			}
		})
	}
	all.Wait()
}

// TestConcurrentUseAndDrops is for the race detector: keys are zeroed while
// others seal and open.
func TestConcurrentUseAndDrops(t *testing.T) {
	r := newRig(t)
	c := r.cipher(t, phi.Options{CacheFor: 20 * time.Millisecond})
	members := []tenants.ID{r.tenant(t), r.tenant(t), r.tenant(t)}
	ctx, cancel := context.WithTimeout(t.Context(), 700*time.Millisecond)
	defer cancel()
	var all sync.WaitGroup
	for i := range 8 {
		tenant := members[i%len(members)]
		all.Go(func() {
			for ctx.Err() == nil {
				p := place(tenant)
				sealed, err := c.Seal(t.Context(), p, phi.NewText(marker))
				if err == nil {
					var text phi.Text
					if text, err = c.Open(t.Context(), p, sealed); err == nil && !text.Equal(phi.NewText(marker)) {
						err = errors.New("another value came back")
					}
				}
				if err == nil {
					_, err = c.BlindIndex(t.Context(), tenant, "a", phi.NewText(marker))
				}
				if err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	all.Go(func() {
		tick := time.NewTicker(time.Millisecond)
		defer tick.Stop()
		for i := 0; ctx.Err() == nil; i++ {
			c.Drop(members[i%len(members)])
			<-tick.C
		}
	})
	all.Wait()
}

func TestClosedCipherServesNothingAndLeavesNothing(t *testing.T) {
	r := newRig(t)
	before := goleak.IgnoreCurrent()
	c, err := phi.NewCipher(r.kms, r.source, phi.Options{})
	if err != nil {
		t.Fatal(err)
	}
	tenant := r.tenant(t)
	p := place(tenant)
	sealed := seal(t, c, p, marker)
	opens(t, c, p, sealed, marker)
	c.Close()
	if _, err := c.Open(t.Context(), p, sealed); err == nil {
		t.Error("a closed cipher opens")
	}
	if _, err := c.Seal(t.Context(), p, phi.NewText("x")); err == nil {
		t.Error("a closed cipher seals")
	}
	goleak.VerifyNone(t, before)
}
