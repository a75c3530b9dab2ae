package placement

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"regexp"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/caresphere/caresphere/controlplane/acts"
	"github.com/caresphere/caresphere/controlplane/store"
	"github.com/caresphere/caresphere/internal/audit"
	"github.com/caresphere/caresphere/internal/pg"
	"github.com/caresphere/caresphere/tenants"
)

// StaleAfter is how long a worker may be silent before its entry is dropped.
// Routers find a dead worker by its health check within seconds; this only
// cleans up after one that never said goodbye.
const StaleAfter = 5 * time.Minute

var workerID = regexp.MustCompile(`^[a-z][a-z0-9-]{0,62}$`)

// Workers is the registry of data-plane processes.
type Workers struct{ pool *pgxpool.Pool }

// NewWorkers returns the registry.
func NewWorkers(pool *pgxpool.Pool) *Workers { return &Workers{pool} }

// Put records that a worker is there. Only a new worker, or one with another cell
// or address, changes the route table; a heartbeat does not. Errors: KindInvalid
// naming the field, KindConflict for a cell that nobody has registered yet.
func (w *Workers) Put(ctx context.Context, worker tenants.Worker) error {
	if err := checkWorker(worker); err != nil {
		return err
	}
	err := pg.InTx(ctx, w.pool, func(tx pgx.Tx) error {
		q := store.New(tx)
		was, err := q.WorkerLock(ctx, worker.ID)
		if err != nil && !errors.Is(err, pgx.ErrNoRows) {
			return fmt.Errorf("reading the worker: %w", err)
		}
		known := err == nil && was.CellID == worker.CellID && was.Url == worker.URL
		if err := q.WorkerPut(ctx, store.WorkerPutParams{ID: worker.ID, CellID: worker.CellID, Url: worker.URL}); err != nil {
			return err
		}
		if known {
			return nil
		}
		return changed(ctx, tx, "worker.register", worker.ID, map[string]string{"cell": worker.CellID, "url": worker.URL})
	})
	if pg.IsCode(err, "23503") { // foreign_key_violation
		return tenants.WrapError(tenants.KindConflict, "the cell is not registered", err)
	}
	if err != nil {
		return fmt.Errorf("registering a worker: %w", err)
	}
	return nil
}

// Remove takes a worker that drains out of the table. Removing one that is not
// there is no error.
func (w *Workers) Remove(ctx context.Context, id string) error {
	if !workerID.MatchString(id) {
		return tenants.Invalid("path.id", "must be a worker's id")
	}
	err := pg.InTx(ctx, w.pool, func(tx pgx.Tx) error {
		n, err := store.New(tx).WorkerDelete(ctx, id)
		if err != nil || n == 0 {
			return err
		}
		return changed(ctx, tx, "worker.remove", id, nil)
	})
	if err != nil {
		return fmt.Errorf("removing a worker: %w", err)
	}
	return nil
}

// DropStale removes workers that were silent for StaleAfter; it returns how many.
func (w *Workers) DropStale(ctx context.Context) (int, error) {
	var ids []string
	err := pg.InTx(ctx, w.pool, func(tx pgx.Tx) error {
		now, err := acts.DatabaseClock(ctx, tx)
		if err != nil {
			return err
		}
		if ids, err = store.New(tx).WorkerDeleteStale(ctx, now.Add(-StaleAfter)); err != nil {
			return err
		}
		for _, id := range ids {
			if err := changed(ctx, tx, "worker.drop_stale", id, nil); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return 0, fmt.Errorf("dropping silent workers: %w", err)
	}
	return len(ids), nil
}

func changed(ctx context.Context, tx pgx.Tx, action, id string, detail map[string]string) error {
	if err := Publish(ctx, tx); err != nil {
		return err
	}
	return audit.Insert(ctx, tx, acts.System, audit.Event{Action: action, RecordType: "worker", RecordID: id, Detail: detail})
}

func checkWorker(w tenants.Worker) error {
	if !workerID.MatchString(w.ID) {
		return tenants.Invalid("path.id", "must be 1 to 63 lower case letters, digits and dashes, starting with a letter")
	}
	if !workerID.MatchString(w.CellID) || len(w.CellID) > 31 {
		return tenants.Invalid("body.cell_id", "must be a cell's id")
	}
	u, err := url.Parse(w.URL)
	if err != nil || u.Scheme != "https" || u.Hostname() == "" || u.User != nil || u.Path != "" || u.RawQuery != "" ||
		u.Fragment != "" || len(w.URL) > 200 {
		return tenants.Invalid("body.url", "must be https://host:port and nothing else")
	}
	return nil
}
