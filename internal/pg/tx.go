package pg

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// Beginner is a pool or a connection.
type Beginner interface {
	Begin(context.Context) (pgx.Tx, error)
}

// rollbackTimeout bounds the ROLLBACK of a transaction whose own context is over.
const rollbackTimeout = 2 * time.Second

// InTx runs fn in a transaction and commits it. An error from fn, a panic in it or
// a failing commit rolls everything back; fn's error is returned as it is.
func InTx(ctx context.Context, db Beginner, fn func(pgx.Tx) error) error {
	tx, err := db.Begin(ctx)
	if err != nil {
		return fmt.Errorf("beginning a transaction: %w", err)
	}
	done := false
	defer func() {
		if done {
			return
		}
		rctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), rollbackTimeout)
		defer cancel()
		_ = tx.Rollback(rctx)
	}()
	if err := fn(tx); err != nil {
		return err
	}
	if err := tx.Commit(ctx); err != nil {
		return fmt.Errorf("committing a transaction: %w", err)
	}
	done = true
	return nil
}

// IsCode tells whether the error is PostgreSQL's with this SQLSTATE.
func IsCode(err error, sqlstate string) bool {
	var e *pgconn.PgError
	return errors.As(err, &e) && e.Code == sqlstate
}

// IsUnique tells whether the error is a violation of this unique constraint
// (SQLSTATE 23505); an empty name means any.
func IsUnique(err error, constraint string) bool {
	var e *pgconn.PgError
	return errors.As(err, &e) && e.Code == "23505" && (constraint == "" || e.ConstraintName == constraint)
}
