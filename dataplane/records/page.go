package records

import "github.com/caresphere/caresphere/tenants"

// DefaultLimit and MaxLimit bound a page.
const (
	DefaultLimit = 50
	MaxLimit     = 200
)

// Page is one page of a list.
type Page[T any] struct {
	Items []T `json:"items" nullable:"false" doc:"The records of this page, in the list's order"`
	// Next is the id of the last record, where a next page goes on.
	Next string `json:"next_cursor" maxLength:"64" doc:"Cursor of the next page; empty on the last"`
}

// Cursor is where a page begins: after this id in the list's order, Limit records.
type Cursor struct {
	After tenants.ID
	Limit int
}

// Probe is how many rows to read: one more than the page, to know of a next one.
func (c Cursor) Probe() int32 { return int32(c.limit()) + 1 }

// Before is After for lists that run from the newest: the greatest id when unset.
func (c Cursor) Before() tenants.ID {
	if !c.After.IsZero() {
		return c.After
	}
	var last tenants.ID
	for i := range last {
		last[i] = 0xff
	}
	return last
}

func (c Cursor) limit() int {
	if c.Limit <= 0 || c.Limit > MaxLimit {
		return DefaultLimit
	}
	return c.Limit
}

// Cut makes the page of rows that Probe rows were read for. convert may fail, as
// when a value does not open.
func Cut[R, T any](c Cursor, rows []R, id func(R) tenants.ID, convert func(R) (T, error)) (Page[T], error) {
	p := Page[T]{Items: []T{}}
	if len(rows) > c.limit() {
		rows = rows[:c.limit()]
		p.Next = id(rows[len(rows)-1]).String()
	}
	for _, r := range rows {
		t, err := convert(r)
		if err != nil {
			return Page[T]{}, err
		}
		p.Items = append(p.Items, t)
	}
	return p, nil
}
