package sealer

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"golang.org/x/mod/sumdb/tlog"
)

// Anchored is a signed head as kept by an anchor.
type Anchored struct {
	Origin string
	Size   int64
	Root   tlog.Hash
	Note   string
}

// ErrFork is returned by Anchor.Put when the anchor holds another root for the
// same log and size: two histories exist.
var ErrFork = errors.New("another root is anchored for this size")

// Anchor keeps heads where those who can change a log's database cannot.
type Anchor interface {
	// Last returns the largest head of the origin, or nil if there is none.
	Last(ctx context.Context, origin string) (*Anchored, error)
	// Put keeps a head for good. The same head again is no error; another root for
	// the same size is ErrFork.
	Put(ctx context.Context, a Anchored) error
}

// PostgresAnchor keeps heads in the control database's audit_anchor.
type PostgresAnchor struct{ Pool *pgxpool.Pool }

// Last implements Anchor.
func (p PostgresAnchor) Last(ctx context.Context, origin string) (*Anchored, error) {
	a := Anchored{Origin: origin}
	var root []byte
	err := p.Pool.QueryRow(ctx, `SELECT tree_size, root_hash, checkpoint FROM audit_anchor
		WHERE log = $1 ORDER BY tree_size DESC LIMIT 1`, origin).Scan(&a.Size, &root, &a.Note)
	if errors.Is(err, pgx.ErrNoRows) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("reading the anchor of %s: %w", origin, err)
	}
	copy(a.Root[:], root)
	return &a, nil
}

// Put implements Anchor.
func (p PostgresAnchor) Put(ctx context.Context, a Anchored) error {
	if _, err := p.Pool.Exec(ctx, `INSERT INTO audit_anchor (log, tree_size, root_hash, checkpoint)
		VALUES ($1, $2, $3, $4) ON CONFLICT DO NOTHING`, a.Origin, a.Size, a.Root[:], a.Note); err != nil {
		return fmt.Errorf("anchoring %s: %w", a.Origin, err)
	}
	var root []byte
	if err := p.Pool.QueryRow(ctx, `SELECT root_hash FROM audit_anchor WHERE log = $1 AND tree_size = $2`,
		a.Origin, a.Size).Scan(&root); err != nil {
		return fmt.Errorf("reading back the anchor of %s: %w", a.Origin, err)
	}
	if string(root) != string(a.Root[:]) {
		return fmt.Errorf("anchoring %s at %d: %w", a.Origin, a.Size, ErrFork)
	}
	return nil
}

// Anchors keeps every head in each of several places, as the control database
// and a witness. Last is the largest that any of them holds.
type Anchors []Anchor

// Last implements Anchor.
func (all Anchors) Last(ctx context.Context, origin string) (*Anchored, error) {
	var last *Anchored
	for _, one := range all {
		a, err := one.Last(ctx, origin)
		if err != nil {
			return nil, err
		}
		if a != nil && last != nil && a.Size == last.Size && a.Root != last.Root {
			return nil, fmt.Errorf("the anchors of %s disagree at %d: %w", origin, a.Size, ErrFork)
		}
		if a != nil && (last == nil || a.Size > last.Size) {
			last = a
		}
	}
	return last, nil
}

// Put implements Anchor.
func (all Anchors) Put(ctx context.Context, a Anchored) error {
	for _, one := range all {
		if err := one.Put(ctx, a); err != nil {
			return err
		}
	}
	return nil
}
