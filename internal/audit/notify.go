package audit

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"

	"github.com/jackc/pgx/v5/pgconn"
)

// Tag is what a notification names the log by: any login of the database may
// listen, and a tag tells nobody who does not know the tenant's id already.
func (l Log) Tag() string {
	sum := sha256.Sum256([]byte(Channel + "|" + l.Name()))
	return hex.EncodeToString(sum[:16])
}

// Execer is a pool, a connection or a transaction.
type Execer interface {
	Exec(ctx context.Context, sql string, args ...any) (pgconn.CommandTag, error)
}

// Notify tells the sealer that the log has new entries. Callers debounce: one
// notification a log and 100 ms is enough. Missing ones are made up for by the
// sealer's sweep.
func Notify(ctx context.Context, db Execer, l Log) error {
	if _, err := db.Exec(ctx, "SELECT pg_notify($1, $2)", Channel, l.Tag()); err != nil {
		return fmt.Errorf("notifying the audit sealer: %w", err)
	}
	return nil
}
