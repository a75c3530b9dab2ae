package phi_test

import (
	"testing"
	"time"

	"github.com/caresphere/caresphere/internal/kms/driver"
	"github.com/caresphere/caresphere/internal/phi"
	"github.com/caresphere/caresphere/tenants"
)

// TestAKeyInUseIsRenewedBeforeItsTimeIsOver has the key service go away after a key in use
// was renewed: it serves past the end of its first time, where one that nobody used in the
// meantime does not.
func TestAKeyInUseIsRenewedBeforeItsTimeIsOver(t *testing.T) {
	const life = 5 * time.Second
	r := newRig(t)
	c, tenant, unused := r.cipher(t, phi.Options{CacheFor: life}), r.tenant(t), r.tenant(t)
	p, q := place(tenant), place(unused)
	sealed, other := seal(t, c, p, marker), seal(t, c, q, marker)
	over := time.Now().Add(life)
	r.kms.unwraps.Store(0)
	for r.kms.unwraps.Load() == 0 {
		if time.Now().After(over) {
			t.Fatal("it was not renewed in time")
		}
		opens(t, c, p, sealed, marker)
		_ = seal(t, c, p, "meanwhile")
	}
	// What was asked is answered by then.
	for settled := time.Now().Add(life / 20); time.Now().Before(settled); {
		opens(t, c, p, sealed, marker)
	}
	r.kms.away.Store(true)
	for end := over.Add(life / 10); time.Now().Before(end); {
		opens(t, c, p, sealed, marker)
		_ = seal(t, c, p, "meanwhile")
	}
	_, err := c.Open(t.Context(), q, other)
	refused(t, "one that nobody used", err, tenants.KindUnavailable)
}

// TestARenewalFindsADisabledKey: what was not told of it is found before the key's time is over.
func TestARenewalFindsADisabledKey(t *testing.T) {
	const life = 5 * time.Second
	r := newRig(t)
	c, tenant, open := r.cipher(t, phi.Options{CacheFor: life}), r.tenant(t), r.tenant(t)
	p, q := place(tenant), place(open)
	sealed, other := seal(t, c, p, marker), seal(t, c, q, marker)
	over := time.Now().Add(life)
	if err := r.kms.Disable(t.Context(), driver.KeyName(tenant)); err != nil {
		t.Fatal(err)
	}
	for {
		_, err := c.Open(t.Context(), p, sealed)
		if err != nil {
			refused(t, "a key that was disabled", err, tenants.KindGateClosed)
			break
		}
		if time.Now().After(over) {
			t.Fatal("it was used to the end of its time")
		}
	}
	if time.Now().After(over) {
		t.Error("its time was over anyway")
	}
	opens(t, c, q, other, marker)
}
