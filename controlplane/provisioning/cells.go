package provisioning

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/caresphere/caresphere/controlplane/jobs"
	"github.com/caresphere/caresphere/controlplane/store"
	"github.com/caresphere/caresphere/internal/tenantdb"

	"github.com/jackc/pgx/v5"
	"github.com/riverqueue/river"
)

// renewEvery is how often a cell's credentials are looked through: every three hours.
const renewEvery = tenantdb.CertificateLife / 56

// errElsewhere ends the steps of an organization whose place is in another cell.
var errElsewhere = errors.New("provisioning: another cell's provisioner goes on")

// handOver gives a job that was taken from a queue of no cell to the one whose it is.
// The job at hand is over then: only that cell's provisioner has the rights for it.
func (p *Provisioner) handOver(ctx context.Context, job river.JobArgs, queue string) error {
	_, err := p.jobs.Insert(ctx, job, &river.InsertOpts{Queue: queue})
	return wrap(err, "handing a job over to its cell")
}

// settle places the organization where the fewest are. If that is another cell, its
// provisioner is asked in the same transaction, and the lease ends with it.
func (r *run) settle(ctx context.Context) error {
	return r.control(ctx, func(tx pgx.Tx, q *store.Queries) error {
		cells, err := q.ProvisionCells(ctx)
		if err != nil {
			return fmt.Errorf("listing cells: %w", err)
		}
		if len(cells) == 0 {
			return because("no cell takes new organizations now; it is tried again", nil)
		}
		chosen := cells[0].ID
		n, err := q.ProvisionPlace(ctx, store.ProvisionPlaceParams{ID: r.organization, CellID: &chosen})
		if err != nil {
			return fmt.Errorf("placing the organization: %w", err)
		}
		if n == 0 || chosen == r.p.CellID {
			return nil
		}
		if _, err := r.p.jobs.InsertTx(ctx, tx, jobs.Provision{OrganizationID: r.organization},
			&river.InsertOpts{Queue: jobs.QueueProvision(chosen)}); err != nil {
			return fmt.Errorf("asking the chosen cell's provisioner: %w", err)
		}
		_, err = q.LeaseDrop(ctx, store.LeaseDropParams{OrganizationID: r.organization, Fence: r.fence})
		return wrap(err, "ending the provisioning lease")
	})
}

// resumeProvisioning asks again for organizations that are being provisioned by nobody:
// the cell's own, and those without a place.
func (p *Provisioner) resumeProvisioning(ctx context.Context, queue inserts) error {
	stalled, err := p.q.ProvisionStalled(ctx, &p.CellID)
	if err != nil {
		return wrap(err, "listing organizations whose provisioning stopped")
	}
	for _, o := range stalled {
		to := jobs.AnyProvision
		if o.Placed {
			to = jobs.QueueProvision(p.CellID)
		}
		if _, err := queue.Insert(ctx, jobs.Provision{OrganizationID: o.ID}, &river.InsertOpts{Queue: to}); err != nil {
			return wrap(err, "asking for provisioning again")
		}
		p.Log.WarnContext(ctx, "provisioning had stopped and goes on", "tenant", o.ID.String())
	}
	return nil
}

// askRenewal asks for the renewal of this cell's credentials, at the start and every
// renewEvery; it returns when it was last asked for. Each provisioner asks for its own
// cell: River's own periods are those of whichever process leads, and so of one cell.
func (p *Provisioner) askRenewal(ctx context.Context, queue inserts, last time.Time) time.Time {
	now := time.Now()
	if now.Sub(last) < renewEvery {
		return last
	}
	if _, err := queue.Insert(ctx, jobs.RenewCredentials{}, &river.InsertOpts{Queue: jobs.QueueRenew(p.CellID)}); err != nil {
		if ctx.Err() == nil {
			p.Log.WarnContext(ctx, "the renewal of credentials was not asked for", "error", err)
		}
		return last
	}
	return now
}

// elsewhere says whether the organization is placed in another cell, and which.
func (p *Provisioner) elsewhere(cell *string) (string, bool) {
	if cell == nil || *cell == p.CellID {
		return "", false
	}
	return *cell, true
}
