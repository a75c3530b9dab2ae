// Package search reads an audit trail for people who look for something in it.
//
// It owns the query and its cursor. It trusts row-level security for who may look,
// and writes the same condition into the query for speed only. It never writes:
// that a search took place is recorded by whoever calls it.
package search

import (
	"context"
	"encoding/base64"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/caresphere/caresphere/internal/audit"
	"github.com/caresphere/caresphere/internal/audit/record"
	"github.com/caresphere/caresphere/tenants"
)

// MaxLimit is the largest page; DefaultLimit is used for a Limit of zero.
const (
	MaxLimit     = 500
	DefaultLimit = 50
)

// Page says which part of the matches to return, newest first.
type Page struct {
	// Cursor is Result.Next of the page before; empty for the first page.
	Cursor string
	Limit  int
}

// Result is one page.
type Result struct {
	Entries []record.Entry
	// Next is the cursor of the next page; empty when this is the last.
	Next string
}

// Find returns a page of the entries that the filter chooses, by time and number,
// newest first. The cursor stands on the last entry of a page, so pages neither
// skip nor repeat an entry while new ones arrive. Errors of kind KindInvalid name
// a bad cursor, limit or range.
func Find(ctx context.Context, tx pgx.Tx, l audit.Log, f audit.Filter, p Page) (Result, error) {
	if err := check(f, p); err != nil {
		return Result{}, err
	}
	limit := p.Limit
	if limit == 0 {
		limit = DefaultLimit
	}
	where, args := f.Where("e", nil)
	if p.Cursor != "" {
		at, seq, err := parseCursor(p.Cursor)
		if err != nil {
			return Result{}, err
		}
		args = append(args, at, seq)
		where += fmt.Sprintf(" AND (e.at, e.seq) < ($%d, $%d)", len(args)-1, len(args))
	}
	// One more than the page tells whether there is another.
	args = append(args, limit+1)
	rows, err := tx.Query(ctx, `SELECT `+audit.EntryColumns(l, "e")+` FROM `+l.Table("audit_entry")+` e WHERE `+where+
		` ORDER BY e.at DESC, e.seq DESC LIMIT $`+strconv.Itoa(len(args)), args...)
	if err != nil {
		return Result{}, fmt.Errorf("searching the audit trail: %w", err)
	}
	defer rows.Close()
	r := Result{Entries: []record.Entry{}}
	for rows.Next() {
		e, err := audit.ScanEntry(l, rows)
		if err != nil {
			return Result{}, err
		}
		r.Entries = append(r.Entries, e)
	}
	if err := rows.Err(); err != nil {
		return Result{}, fmt.Errorf("searching the audit trail: %w", err)
	}
	if len(r.Entries) > limit {
		r.Entries = r.Entries[:limit]
		last := r.Entries[limit-1]
		r.Next = cursor(last.At, last.Seq)
	}
	return r, nil
}

func check(f audit.Filter, p Page) error {
	e := &tenants.Error{Kind: tenants.KindInvalid, Message: "the request is not valid"}
	if p.Limit < 0 || p.Limit > MaxLimit {
		e.Fields = append(e.Fields, tenants.FieldError{Field: "query.limit", Message: fmt.Sprintf("must be between 1 and %d", MaxLimit)})
	}
	if !f.From.IsZero() && !f.To.IsZero() && !f.From.Before(f.To) {
		e.Fields = append(e.Fields, tenants.FieldError{Field: "query.to", Message: "must be later than from"})
	}
	switch f.Outcome {
	case "", audit.OutcomeOK, audit.OutcomeDenied, audit.OutcomeFailed:
	default:
		e.Fields = append(e.Fields, tenants.FieldError{Field: "query.outcome", Message: "must be ok, denied or failed"})
	}
	if len(e.Fields) > 0 {
		return e
	}
	return nil
}

// A cursor is a place in the order, and says nothing else.
func cursor(at time.Time, seq int64) string {
	return base64.RawURLEncoding.EncodeToString([]byte(strconv.FormatInt(at.UnixMicro(), 10) + "." + strconv.FormatInt(seq, 10)))
}

func parseCursor(s string) (time.Time, int64, error) {
	invalid := tenants.Invalid("query.cursor", "must be the cursor of the page before")
	raw, err := base64.RawURLEncoding.Strict().DecodeString(s)
	if err != nil || len(raw) > 64 {
		return time.Time{}, 0, invalid
	}
	micros, number, ok := strings.Cut(string(raw), ".")
	at, err := strconv.ParseInt(micros, 10, 64)
	seq, err2 := strconv.ParseInt(number, 10, 64)
	if !ok || err != nil || err2 != nil || cursor(time.UnixMicro(at), seq) != s || at < 0 || at > maxMicros {
		return time.Time{}, 0, invalid
	}
	return time.UnixMicro(at).UTC(), seq, nil
}

// maxMicros is the end of the year 9999, the last that the database's form has.
const maxMicros = 253402300799999999
