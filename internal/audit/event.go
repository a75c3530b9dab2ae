package audit

import (
	"context"
	"encoding/json"
	"fmt"
	"regexp"
	"strings"
	"unicode/utf8"

	"github.com/jackc/pgx/v5"

	"github.com/caresphere/caresphere/internal/audit/record"
	"github.com/caresphere/caresphere/tenants"
)

// Outcome is how an audited action ended.
type Outcome = record.Outcome

// The outcomes.
const (
	OutcomeOK     = record.OK
	OutcomeDenied = record.Denied
	OutcomeFailed = record.Failed
)

// Event is what the caller says of an action. Who acts, and from where, is in
// the actor; when and as which login is the database's.
type Event struct {
	// ID names the entry; a fresh one is made when it is NilID.
	ID tenants.ID
	// Action is required: lower case words with dots, as "client.read".
	Action     string
	RecordType string
	RecordID   string
	// FacilityID is kept in a tenant's trail only.
	FacilityID tenants.ID
	// OrganizationID is kept in the control plane's trail only.
	OrganizationID tenants.ID
	// Outcome is OutcomeOK when empty.
	Outcome Outcome
	// Detail says more by name. Never PHI, at most 4 KiB as JSON.
	Detail map[string]string
}

// The columns of each INSERT are the ones that the roles may write. Everything
// else is the database's own word.
const (
	insertTenant = `INSERT INTO audit_entry (id, facility_id, action, record_type, record_id, outcome, ip, device, request_id, detail)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)`
	insertControl = `INSERT INTO audit_entry (id, organization_id, action, record_type, record_id, outcome, ip, device, request_id, detail,
 actor_kind, actor_id, role, session_id)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14)`
)

// InsertSQL returns the statement that writes an entry, for callers that pipeline
// it in a pgx.Batch together with their own; InsertArgs gives its arguments. With
// control it is the control database's, else a tenant schema's, where the actor
// comes from the transaction's verified context.
func InsertSQL(control bool) string {
	if control {
		return insertControl
	}
	return insertTenant
}

// InsertArgs returns the arguments of InsertSQL. What the client sends (address,
// user agent, request id) is cut and cleaned to fit, so that no client can make
// the insert fail, and with it the action.
func InsertArgs(control bool, actor tenants.Actor, ev Event) []any {
	id := ev.ID
	if id.IsZero() {
		id = tenants.NewID()
	}
	outcome := ev.Outcome
	if outcome == "" {
		outcome = OutcomeOK
	}
	scope := ev.FacilityID
	if control {
		scope = ev.OrganizationID
	}
	args := []any{
		[16]byte(id), nullID(scope), ev.Action, ev.RecordType, ev.RecordID, string(outcome),
		Clean(actor.IP, 64), Clean(actor.Device, 200), Clean(actor.RequestID, 128), detailJSON(ev.Detail),
	}
	if control {
		args = append(args, string(actor.Kind), nullID(actor.ID), string(actor.Role), nullID(actor.SessionID))
	}
	return args
}

// Insert writes the entry in the caller's transaction: it commits or vanishes
// with the action. An error means that the action must not happen. The form is a
// tenant's where the connection's login is a tenant's role, else the control
// database's.
func Insert(ctx context.Context, tx pgx.Tx, actor tenants.Actor, ev Event) error {
	control := !tenantRole.MatchString(tx.Conn().Config().User)
	if _, err := tx.Exec(ctx, InsertSQL(control), InsertArgs(control, actor, ev)...); err != nil {
		return fmt.Errorf("writing the audit entry of %s: %w", ev.Action, err)
	}
	return nil
}

// tenantRole is the form of a tenant's login role: t_ and the id's hex digits.
var tenantRole = regexp.MustCompile(`^t_[0-9a-f]{32}$`)

// nullID turns NilID into SQL's null.
func nullID(id tenants.ID) any {
	if id.IsZero() {
		return nil
	}
	return [16]byte(id)
}

func detailJSON(m map[string]string) string {
	if len(m) == 0 {
		return "{}"
	}
	clean := make(map[string]string, len(m))
	for k, v := range m {
		clean[Clean(k, 64)] = Clean(v, 1024)
	}
	b, _ := json.Marshal(clean)
	return string(b)
}

// Clean returns s as valid UTF-8 without control characters, at most that many bytes
// long and cut between characters.
func Clean(s string, most int) string {
	s = strings.Map(func(r rune) rune {
		if r < 0x20 || r == 0x7f {
			return ' '
		}
		return r
	}, strings.ToValidUTF8(s, "\uFFFD"))
	if len(s) <= most {
		return s
	}
	s = s[:most]
	for !utf8.ValidString(s) {
		s = s[:len(s)-1]
	}
	return s
}
