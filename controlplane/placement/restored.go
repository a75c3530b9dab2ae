package placement

import (
	"context"
	"fmt"
	"log/slog"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/caresphere/caresphere/controlplane/acts"
	"github.com/caresphere/caresphere/controlplane/store"
	"github.com/caresphere/caresphere/internal/audit"
	"github.com/caresphere/caresphere/internal/pg"
	"github.com/caresphere/caresphere/tenants"
)

// maxAhead is how far a reader may be ahead of the database: more than any backup's age
// can explain, and too little to use versions up.
const maxAhead = 1 << 32

const overtakeTime = 5 * time.Second

// behind says whether a reader has a newer table than this feed.
func (f *Feed) behind(after int64) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.doc != nil && after > f.version
}

// overtake raises the route table's version above one that a reader has, if the database
// does not know that one: a backup of it was restored. Else the reader would keep its
// table, with every route that was withdrawn since, until the versions had caught up.
// The error is KindInvalid for a version that is too far ahead.
func overtake(ctx context.Context, db pg.Beginner, have int64) error {
	ctx, cancel := context.WithTimeout(ctx, overtakeTime)
	defer cancel()
	err := pg.InTx(ctx, db, func(tx pgx.Tx) error {
		q := store.New(tx)
		version, err := q.RouteVersion(ctx)
		if err != nil {
			return fmt.Errorf("reading the route table's version: %w", err)
		}
		if have <= version {
			// This feed was behind the database for a moment.
			return nil
		}
		if have-version > maxAhead {
			return tenants.Invalid("query.after", "is no version of this route table")
		}
		n, err := q.RouteRaise(ctx, have+1)
		if err != nil || n == 0 {
			return err
		}
		if err := q.RouteNotify(ctx, strconv.FormatInt(have+1, 10)); err != nil {
			return fmt.Errorf("announcing the route table's version: %w", err)
		}
		slog.ErrorContext(ctx, "A READER IS AHEAD OF THE CONTROL DATABASE, as after a restore: the route table is published above it",
			"reader_version", have, "control_version", version)
		return audit.Insert(ctx, tx, acts.System, audit.Event{Action: "routes.raise", RecordType: "route_table",
			Detail: map[string]string{"from": strconv.FormatInt(version, 10), "version": strconv.FormatInt(have+1, 10)}})
	})
	if err != nil {
		return fmt.Errorf("overtaking a reader of the route table: %w", err)
	}
	return nil
}
