package audit

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/caresphere/caresphere/tenants"
)

// GroupSQL writes a list of entries of one tenant, which the worker has signed, and
// returns how many it wrote: $1 is tenantdb.MintEntries, $2 the list.
const GroupSQL = "SELECT cell.write_entries($1, $2)"

// InsteadOf is the word in a refusal's detail that names the entry which could not be
// written before: what it would have told of was not answered.
const InsteadOf = "instead_of"

// grouped is one entry in the list, in the words of cell.write_entries.
type grouped struct {
	ID         tenants.ID      `json:"id"`
	Actor      tenants.ID      `json:"actor"`
	Role       tenants.Role    `json:"role"`
	Session    tenants.ID      `json:"session"`
	Facility   *tenants.ID     `json:"facility,omitempty"`
	Action     string          `json:"action"`
	RecordType string          `json:"record_type"`
	Record     string          `json:"record"`
	Outcome    Outcome         `json:"outcome"`
	IP         string          `json:"ip"`
	Device     string          `json:"device"`
	Request    string          `json:"request"`
	Detail     json.RawMessage `json:"detail"`
}

// GroupEntry returns a member's entry for Entries. What the client sends is cut and
// cleaned as by InsertArgs.
func GroupEntry(actor tenants.Actor, ev Event) ([]byte, error) {
	g := grouped{ID: ev.ID, Actor: actor.ID, Role: actor.Role, Session: actor.SessionID, Action: ev.Action, RecordType: ev.RecordType,
		Record: ev.RecordID, Outcome: ev.Outcome, IP: Clean(actor.IP, 64), Device: Clean(actor.Device, 200),
		Request: Clean(actor.RequestID, 128), Detail: json.RawMessage(detailJSON(ev.Detail))}
	if g.ID.IsZero() {
		g.ID = tenants.NewID()
	}
	if !slices.Contains(tenants.AllRoles(), actor.Role) {
		g.Role = "" // as a signed context leaves it out
	}
	if g.Outcome == "" {
		g.Outcome = OutcomeOK
	}
	if !ev.FacilityID.IsZero() {
		g.Facility = &ev.FacilityID
	}
	b, err := json.Marshal(g)
	if err != nil {
		return nil, fmt.Errorf("encoding an audit entry: %w", err)
	}
	return b, nil
}

// Entries joins entries to the list that GroupSQL takes.
func Entries(entries [][]byte) string {
	var b strings.Builder
	n := 2
	for _, e := range entries {
		n += len(e) + 1
	}
	b.Grow(n)
	b.WriteByte('[')
	for i, e := range entries {
		if i > 0 {
			b.WriteByte(',')
		}
		b.Write(e)
	}
	b.WriteByte(']')
	return b.String()
}
