package clients

import (
	"context"
	"strconv"

	"github.com/caresphere/caresphere/dataplane/access"
	"github.com/caresphere/caresphere/dataplane/records"
	"github.com/caresphere/caresphere/tenants"
)

// part is a kind of record that belongs to a client, as stored (R) and as shown
// (T): how to insert, load and open one. Its facility is always the client's.
type part[R, T any] struct {
	// name stands in the trail, as "contact".
	name   string
	insert func(ctx context.Context, tx *access.Tx, id, client, facility tenants.ID) (R, error)
	get    func(ctx context.Context, tx *access.Tx, id, client tenants.ID) (R, error)
	open   func(ctx context.Context, tx *access.Tx, row R) (T, error)
}

// addPart makes one in a transaction with its entry; a repeat of the request answers
// with what the first one made. Errors: KindNotFound for a client out of scope,
// KindIdempotencyMismatch.
func addPart[R, T any](ctx context.Context, s Service, actor tenants.Actor, once access.Once, client tenants.ID, p part[R, T]) (T, error) {
	var out, none T
	err := s.Door.Do(ctx, actor, tenants.PermClientUpdate,
		access.Target{Action: p.name + ".create", RecordType: recordType, RecordID: client},
		func(ctx context.Context, tx *access.Tx) error {
			facility, err := ofClient(ctx, tx, client)
			if err != nil {
				return err
			}
			id, repeat, err := tx.Claim(ctx, once)
			if err != nil {
				return err
			}
			tx.Note(p.name, id.String())
			var row R
			if repeat {
				row, err = p.get(ctx, tx, id, client)
			} else {
				row, err = p.insert(ctx, tx, id, client, facility)
			}
			if err != nil {
				return err
			}
			out, err = p.open(ctx, tx, row)
			return err
		})
	if err != nil {
		return none, err
	}
	return out, nil
}

// listParts returns one page of the client's records, oldest first.
func listParts[R, T any](ctx context.Context, s Service, actor tenants.Actor, client tenants.ID, c records.Cursor, p part[R, T],
	list func(context.Context, *access.Tx) ([]R, error), id func(R) tenants.ID) (records.Page[T], error) {
	var out records.Page[T]
	err := s.Door.Do(ctx, actor, tenants.PermClientRead,
		access.Target{Action: p.name + ".list", RecordType: recordType, RecordID: client},
		func(ctx context.Context, tx *access.Tx) error {
			if _, err := ofClient(ctx, tx, client); err != nil {
				return err
			}
			rows, err := list(ctx, tx)
			if err != nil {
				return err
			}
			out, err = records.Cut(c, rows, id, func(r R) (T, error) { return p.open(ctx, tx, r) })
			tx.Note("count", strconv.Itoa(len(out.Items)))
			return err
		})
	if err != nil {
		return records.Page[T]{}, err
	}
	return out, nil
}
