package access

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/caresphere/caresphere/dataplane/store"
	"github.com/caresphere/caresphere/internal/phi"
	"github.com/caresphere/caresphere/tenants"
)

// Once is what makes a POST safe to repeat: the client's Idempotency-Key, the
// operation it was sent to and the body it came with. The zero value means that
// the client gave no key.
type Once struct {
	Key       string
	Operation string
	Body      []byte
}

// Claim settles, in the transaction that creates, which record this request
// stands for. It returns a fresh id to create under, or, for a repeat, the id of
// what the first request made, with repeat set: load that and answer as the first
// did. Two at once: the second waits for the first. KindIdempotencyMismatch when
// the key came with another operation or body.
func (tx *Tx) Claim(ctx context.Context, o Once) (id tenants.ID, repeat bool, err error) {
	return tx.ClaimAs(ctx, o, tenants.NewID())
}

// ClaimAs is Claim for a record whose id is given by others.
func (tx *Tx) ClaimAs(ctx context.Context, o Once, fresh tenants.ID) (id tenants.ID, repeat bool, err error) {
	if o.Key == "" {
		return fresh, false, nil
	}
	hash, err := tx.requestHash(ctx, o)
	if err != nil {
		return tenants.NilID, false, err
	}
	made, err := tx.ClaimIdempotencyKey(ctx, store.ClaimIdempotencyKeyParams{
		Key: o.Key, Operation: o.Operation, RequestHash: hash, RecordID: fresh})
	if err != nil {
		return tenants.NilID, false, fmt.Errorf("claiming an idempotency key: %w", err)
	}
	if made == 1 {
		return fresh, false, nil
	}
	return tx.repeated(ctx, o, hash)
}

// Repeated looks whether this request was made before, without claiming anything.
func (tx *Tx) Repeated(ctx context.Context, o Once) (id tenants.ID, repeat bool, err error) {
	if o.Key == "" {
		return tenants.NilID, false, nil
	}
	hash, err := tx.requestHash(ctx, o)
	if err != nil {
		return tenants.NilID, false, err
	}
	id, repeat, err = tx.repeated(ctx, o, hash)
	if errors.Is(err, pgx.ErrNoRows) {
		return tenants.NilID, false, nil
	}
	return id, repeat, err
}

func (tx *Tx) repeated(ctx context.Context, o Once, hash []byte) (tenants.ID, bool, error) {
	first, err := tx.GetIdempotencyKey(ctx, store.GetIdempotencyKeyParams{Actor: tx.Actor.ID, Key: o.Key})
	if err != nil {
		return tenants.NilID, false, fmt.Errorf("reading an idempotency key: %w", err)
	}
	if first.Operation != o.Operation || string(first.RequestHash) != string(hash) {
		return tenants.NilID, false, tenants.NewError(tenants.KindIdempotencyMismatch, "this Idempotency-Key was used with another request")
	}
	tx.Note("repeat", "true")
	return first.RecordID, true, nil
}

// requestHash is keyed: a plain hash of a body with a name in it could be guessed.
func (tx *Tx) requestHash(ctx context.Context, o Once) ([]byte, error) {
	sum := sha256.Sum256(o.Body)
	return tx.BlindIndex(ctx, "idempotency", phi.NewText(hex.EncodeToString(sum[:])))
}
