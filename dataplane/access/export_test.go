package access

import "github.com/caresphere/caresphere/tenants"

// Waiting is how many requests wait for a place among the worker's connections.
func (d *Door) Waiting() int { return int(d.pools.budget.waiting.Load()) }

// EntriesOpened is how many connections were opened for the tenant's entries so far.
func (d *Door) EntriesOpened(tenant tenants.ID) int {
	tp, ok := d.pools.cache.GetIfPresent(tenant)
	if !ok {
		return 0
	}
	return int(tp.entries.pool.Stat().NewConnsCount())
}

// Running is how many transactions of the tenant hold its permit now.
func (d *Door) Running(tenant tenants.ID) int {
	tp, ok := d.pools.cache.GetIfPresent(tenant)
	if !ok {
		return 0
	}
	return len(tp.request)
}

// Reads is how many reads of one statement of the tenant's are not answered yet.
func (d *Door) Reads(tenant tenants.ID) int {
	tp, ok := d.pools.cache.GetIfPresent(tenant)
	if !ok {
		return 0
	}
	return int(tp.entries.reads.Load())
}
