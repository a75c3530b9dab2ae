package isolation

import (
	"context"
	"errors"

	"github.com/caresphere/caresphere/internal/blob"
	"github.com/caresphere/caresphere/internal/isolation"
	"github.com/caresphere/caresphere/internal/kms/driver"
	"github.com/caresphere/caresphere/internal/tenantdb"
	"github.com/caresphere/caresphere/tenants"
)

// keys tries the tenant's wrapped data key, that of its credential, under what it
// is not bound to. Rewrapping tells it without anybody seeing a data key, and also
// while the key is disabled.
func (p *Prover) keys(ctx context.Context, s *sheet, t subject, peers []subject) {
	row, err := tenantdb.LoadCredential(ctx, p.Cell, t.id)
	if err != nil {
		// Its absence is among what is declared.
		s.unproven("key: there is no wrapped data key to try")
		return
	}
	rewrap := func(key, purpose string, id tenants.ID) (outcome, string) {
		_, _, err := p.Keys.Rewrap(ctx, key, purpose, id, row.WrappedKey)
		switch {
		case err == nil:
			return allowed, ""
		case errors.Is(err, driver.ErrIntegrity):
			return refused, ""
		case errors.Is(err, driver.ErrVersionRetired) && key != driver.KeyName(t.id):
			// Another's key that was rotated refuses by the wrap's version already.
			return refused, ""
		case errors.Is(err, driver.ErrKeyGone):
			return unclear, "the key is gone"
		}
		return unclear, "the key service did not answer as it should"
	}
	name := driver.KeyName(t.id)
	o, detail := rewrap(name, tenantdb.Purpose, row.DataKeyID)
	s.mustAllow(isolation.LayerKey, "data key", "rewrapping under its own key", o, detail)
	o, detail = rewrap(name, "field", row.DataKeyID)
	s.mustRefuse(isolation.LayerKey, "data key", "use for another purpose", o, detail)
	o, detail = rewrap(name, tenantdb.Purpose, tenants.NewID())
	s.mustRefuse(isolation.LayerKey, "data key", "use under another id", o, detail)
	for _, other := range peers {
		o, detail := rewrap(driver.KeyName(other.id), tenantdb.Purpose, row.DataKeyID)
		s.mustRefuse(isolation.LayerKey, other.id.String(), "use under another's key", o, detail)
	}
}

// Prefix is where a tenant's objects lie in the object store.
func Prefix(tenant tenants.ID) string { return "t/" + tenant.Hex() + "/" }

// storage tries the tenant's part of the object store against objects that are there:
// that one which is not cannot be read shows nothing.
func (p *Prover) storage(ctx context.Context, s *sheet, t subject, peers []subject) {
	part, err := p.under(p.Objects, Prefix(t.id))
	if err != nil {
		s.unproven("storage: the tenant's part of the store could not be made")
		return
	}
	switch o, detail := read(ctx, part, blob.Marker); o {
	case allowed:
		s.count(isolation.LayerStorage).Allowed++
	case refused:
		s.found(isolation.LayerStorage, "prefix", "the tenant's prefix is missing")
	default:
		s.unproven("storage: prefix: " + detail)
	}
	if len(peers) > 0 {
		o, detail := listed(ctx, part, "")
		s.mustAllow(isolation.LayerStorage, "prefix", "listing its own objects", o, detail)
	}
	for _, other := range peers {
		theirs := Prefix(other.id)
		switch o, detail := read(ctx, p.Objects, theirs+blob.Marker); o {
		case refused:
			// A finding of that tenant's.
			continue
		case unclear:
			s.unproven("storage: " + other.id.String() + ": " + detail)
			continue
		}
		for _, at := range []string{"../" + other.id.Hex() + "/", theirs, "/" + theirs} {
			o, detail := read(ctx, part, at+blob.Marker)
			s.mustRefuse(isolation.LayerStorage, other.id.String(), "reading another's object", o, detail)
			o, detail = listed(ctx, part, at)
			s.mustRefuse(isolation.LayerStorage, other.id.String(), "listing another's objects", o, detail)
		}
	}
}

func read(ctx context.Context, store blob.Store, key string) (outcome, string) {
	r, err := store.Get(ctx, key)
	if err == nil {
		_ = r.Close()
	}
	return storeOutcome(err)
}

// listed tells whether there is any object under the prefix.
func listed(ctx context.Context, store blob.Store, prefix string) (outcome, string) {
	for _, err := range store.List(ctx, prefix) {
		return storeOutcome(err)
	}
	return storeOutcome(blob.ErrNotFound)
}

func storeOutcome(err error) (outcome, string) {
	switch {
	case err == nil:
		return allowed, ""
	case errors.Is(err, blob.ErrNotFound), errors.Is(err, blob.ErrKey):
		return refused, "there is no such object"
	}
	return unclear, "the object store did not answer"
}
