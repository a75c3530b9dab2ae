package reconcile

import (
	"time"

	"github.com/caresphere/caresphere/tenants"
)

// Report is what a reconciliation found.
type Report struct {
	// From is inclusive, To exclusive.
	From time.Time `json:"from"`
	To   time.Time `json:"to"`
	// Database is the cell's; Lines how many lines of its server's log were read,
	// FirstLine the time of the first one.
	Database  string    `json:"database"`
	Lines     int64     `json:"lines"`
	FirstLine time.Time `json:"first_line"`
	Tenants   []Tenant  `json:"tenants"`
	// Declared counts the statements that are word for word one of a migration's, by
	// the migration's file.
	Declared map[string]int `json:"declared"`
	// Unmatched lists at most maxUnmatched; Found counts them all.
	Unmatched []Unmatched `json:"unmatched"`
	Found     int         `json:"found"`
	// Gaps are reasons why the record may not be whole.
	Gaps []Gap `json:"gaps"`
	// Notices are worth knowing and no fault: the server's restarts.
	Notices []Gap `json:"notices"`
	// OK: nothing is unmatched and there is no gap.
	OK bool `json:"ok"`
}

// Tenant counts what reached one tenant's clinical tables.
type Tenant struct {
	ID tenants.ID `json:"id"`
	// Marks are statements of the tenant's role, Transactions those they were in.
	Marks        int `json:"marks"`
	Transactions int `json:"transactions"`
	// Matched have an audit entry of the same transaction. Refused were rolled back
	// and are followed by the entry of a refusal or failure. Running have not ended.
	Matched int `json:"matched"`
	Refused int `json:"refused"`
	Running int `json:"running"`
	// Unmatched counts transactions of the tenant's role and statements of others.
	Unmatched int `json:"unmatched"`
}

// Unmatched is one reach for a tenant's tables that the trail does not tell of.
type Unmatched struct {
	At time.Time `json:"at"`
	// Tenants may be empty: the statement names a table and no schema, or hides both.
	Tenants     []tenants.ID `json:"tenants,omitempty"`
	Role        string       `json:"role"`
	PID         int          `json:"pid"`
	Application string       `json:"application"`
	From        string       `json:"from"`
	Database    string       `json:"database"`
	Tables      []string     `json:"tables,omitempty"`
	// Statement has ? in place of every value.
	Statement string `json:"statement,omitempty"`
	Why       string `json:"why"`
}

// Gap is something about the record itself.
type Gap struct {
	At   time.Time `json:"at"`
	What string    `json:"what"`
}

// maxUnmatched and maxGaps bound a report.
const (
	maxUnmatched = 1000
	maxGaps      = 200
)
