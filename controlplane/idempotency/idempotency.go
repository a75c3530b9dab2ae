// Package idempotency makes a request with an Idempotency-Key happen once: the
// answer is kept in the transaction of what it did, and given again to a repeat.
//
// It owns the table idempotency_key. It trusts the caller for who the actor is and
// for an answer without secrets, and it never keeps the request itself: a SHA-256
// of it tells a repeat from another request under the same key.
package idempotency

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/caresphere/caresphere/controlplane/store"
	"github.com/caresphere/caresphere/internal/pg"
	"github.com/caresphere/caresphere/tenants"
)

// Lifetime is how long an answer is kept.
const Lifetime = 24 * time.Hour

// Request names a request that may be repeated.
type Request struct {
	// Actor is the identity's id, or whatever else separates one client's keys from another's.
	Actor string
	// Key is the Idempotency-Key header: 1 to 128 visible ASCII characters. When it
	// is empty nothing is kept and every request is new.
	Key string
	// Operation is the OpenAPI operation id.
	Operation string
	// Body is the request's parsed body, with path parameters; it is hashed as JSON.
	Body any
}

// Check returns KindInvalid for a key that may not be used.
func Check(key string) error {
	if len(key) > 128 {
		return tenants.Invalid("header.Idempotency-Key", "must have at most 128 characters")
	}
	for _, c := range []byte(key) {
		if c <= 0x20 || c >= 0x7f {
			return tenants.Invalid("header.Idempotency-Key", "must be visible ASCII characters")
		}
	}
	return nil
}

// Earlier returns the kept answer of the request, if there is one. The error is
// KindIdempotencyMismatch when the key was used for a different request.
func Earlier[T any](ctx context.Context, db store.DBTX, r Request) (answer T, found bool, err error) {
	if r.Key == "" {
		return answer, false, nil
	}
	if err := Check(r.Key); err != nil {
		return answer, false, err
	}
	hash, err := r.hash()
	if err != nil {
		return answer, false, err
	}
	row, err := store.New(db).IdempotentAnswer(ctx, store.IdempotentAnswerParams{Actor: r.Actor, Key: r.Key})
	if errors.Is(err, pgx.ErrNoRows) {
		return answer, false, nil
	}
	if err != nil {
		return answer, false, fmt.Errorf("looking for an earlier answer: %w", err)
	}
	if row.Operation != r.Operation || [32]byte(row.RequestHash) != hash {
		return answer, false, tenants.NewError(tenants.KindIdempotencyMismatch, "this Idempotency-Key was used with a different request")
	}
	if err := json.Unmarshal(row.Response, &answer); err != nil {
		return answer, false, fmt.Errorf("reading an earlier answer: %w", err)
	}
	return answer, true, nil
}

// Do runs fn in a transaction and keeps its answer in it, or returns the answer
// that the same request was given before. Of repeats at the same moment one runs
// and the others get its answer.
func Do[T any](ctx context.Context, pool *pgxpool.Pool, r Request, fn func(pgx.Tx) (T, error)) (T, error) {
	if answer, found, err := Earlier[T](ctx, pool, r); err != nil || found {
		return answer, err
	}
	var answer T
	err := pg.InTx(ctx, pool, func(tx pgx.Tx) error {
		var err error
		if r.Key != "" {
			// Repeats wait here for the first, and then find its answer.
			if err := store.New(tx).LockIdempotencyKey(ctx, r.Actor+"\x1f"+r.Key); err != nil {
				return fmt.Errorf("locking an idempotency key: %w", err)
			}
			var found bool
			if answer, found, err = Earlier[T](ctx, tx, r); err != nil || found {
				return err
			}
		}
		if answer, err = fn(tx); err != nil || r.Key == "" {
			return err
		}
		return r.keep(ctx, tx, answer)
	})
	return answer, err
}

func (r Request) keep(ctx context.Context, tx pgx.Tx, answer any) error {
	hash, err := r.hash()
	if err != nil {
		return err
	}
	doc, err := json.Marshal(answer)
	if err != nil {
		return fmt.Errorf("encoding an answer: %w", err)
	}
	err = store.New(tx).KeepIdempotentAnswer(ctx, store.KeepIdempotentAnswerParams{
		Actor: r.Actor, Key: r.Key, Operation: r.Operation, RequestHash: hash[:], Status: 200, Response: doc})
	if err != nil {
		return fmt.Errorf("keeping an answer: %w", err)
	}
	return nil
}

func (r Request) hash() ([32]byte, error) {
	doc, err := json.Marshal(r.Body)
	if err != nil {
		return [32]byte{}, fmt.Errorf("encoding a request: %w", err)
	}
	return sha256.Sum256(doc), nil
}

// Purge removes answers past their lifetime.
func Purge(ctx context.Context, pool *pgxpool.Pool) error {
	if err := store.New(pool).PurgeIdempotencyKeys(ctx, time.Now().Add(-Lifetime)); err != nil {
		return fmt.Errorf("purging idempotency keys: %w", err)
	}
	return nil
}
