package router

import (
	"math/rand/v2"
	"slices"
	"time"

	"github.com/cespare/xxhash/v2"
)

// spill is how many requests more than another a tenant's worker may have under way
// before the tenant's go to that one too.
const spill = 16

// choose picks a worker not tried yet, among the available, or among all when none is
// available, since a fleet that looks dead is more often a mistaken check than a dead
// fleet.
//
// A tenant keeps to one worker while that one is not far busier than the next: each
// holds connections of the tenant's own, its keys and who may do what in it, and with
// many tenants what it holds is soon not asked for again. Which one that is follows from
// both names alone (rendezvous hashing), so that all routers agree, and a worker that
// comes or goes moves its own tenants only. Without a tenant it is the less busy of two.
func choose(ups, tried []*upstream, tenant string) *upstream {
	now := time.Now()
	good := make([]*upstream, 0, len(ups))
	for _, u := range ups {
		if u.available(now) && !slices.Contains(tried, u) {
			good = append(good, u)
		}
	}
	if len(good) == 0 {
		for _, u := range ups {
			if !slices.Contains(tried, u) {
				good = append(good, u)
			}
		}
	}
	switch {
	case len(good) == 0:
		return nil
	case len(good) == 1:
		return good[0]
	case tenant == "":
		i := rand.IntN(len(good))     //nolint:gosec // spreading load
		j := rand.IntN(len(good) - 1) //nolint:gosec // spreading load
		if j >= i {
			j++
		}
		return lessBusy(good[i], good[j], 0)
	}
	first, second := good[0], good[1]
	if rank(tenant, second) > rank(tenant, first) {
		first, second = second, first
	}
	for _, u := range good[2:] {
		switch r := rank(tenant, u); {
		case r > rank(tenant, first):
			first, second = u, first
		case r > rank(tenant, second):
			second = u
		}
	}
	return lessBusy(first, second, spill)
}

// lessBusy returns a, unless it has more than so many requests more under way than b.
func lessBusy(a, b *upstream, most int64) *upstream {
	if a.busy.Load() > b.busy.Load()+most {
		return b
	}
	return a
}

// rank orders a tenant's workers, each tenant's differently.
func rank(tenant string, u *upstream) uint64 {
	var d xxhash.Digest
	d.Reset()
	_, _ = d.WriteString(u.worker.ID)
	_, _ = d.WriteString("/")
	_, _ = d.WriteString(tenant)
	return d.Sum64()
}
