package audit

import (
	"encoding/json"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"

	"github.com/caresphere/caresphere/internal/audit/record"
	"github.com/caresphere/caresphere/tenants"
)

// EntryColumns lists the columns that Row.Targets reads, in its order, each
// behind the alias of audit_entry.
func EntryColumns(l Log, alias string) string {
	scope := "organization_id"
	if !l.Control {
		scope = "facility_id"
	}
	columns := []string{"seq", "id", "at", "db_role", "actor_kind", "actor_id", "role", "session_id", scope,
		"action", "record_type", "record_id", "outcome", "ip", "device", "request_id"}
	for i, c := range columns {
		columns[i] = alias + "." + c
	}
	// As text: the driver then has nothing to interpret, and the decoding is ours.
	return strings.Join(columns, ", ") + ", " + alias + ".detail::text"
}

// Row receives one audit_entry, also the all-null one of an outer join.
type Row struct {
	seq                                                       pgtype.Int8
	id, actorID, sessionID, scope                             pgtype.UUID
	at                                                        pgtype.Timestamptz
	dbRole, kind, role, action, recordType, recordID, outcome pgtype.Text
	ip, device, requestID, detail                             pgtype.Text
}

// Targets are the scan targets for EntryColumns.
func (r *Row) Targets() []any {
	return []any{&r.seq, &r.id, &r.at, &r.dbRole, &r.kind, &r.actorID, &r.role, &r.sessionID, &r.scope,
		&r.action, &r.recordType, &r.recordID, &r.outcome, &r.ip, &r.device, &r.requestID, &r.detail}
}

// Present tells whether there was a row.
func (r *Row) Present() bool { return r.seq.Valid }

// Entry returns the row as a new canonical entry. An error says what only a superuser can
// leave there and has no canonical form: a time that is none, a detail that is not strings
// by name.
func (r *Row) Entry(l Log) (record.Entry, error) {
	if !r.at.Valid || r.at.InfinityModifier != pgtype.Finite {
		return record.Entry{}, fmt.Errorf("audit entry %d has no time", r.seq.Int64)
	}
	e := record.Entry{
		Seq: r.seq.Int64, ID: r.id.Bytes, At: r.at.Time.UTC(), DBRole: r.dbRole.String,
		ActorKind: tenants.ActorKind(r.kind.String), ActorID: r.actorID.Bytes, Role: r.role.String, SessionID: r.sessionID.Bytes,
		Action: r.action.String, RecordType: r.recordType.String, RecordID: r.recordID.String, Outcome: record.Outcome(r.outcome.String),
		IP: r.ip.String, Device: r.device.String, RequestID: r.requestID.String,
	}
	if l.Control {
		e.OrganizationID = r.scope.Bytes
	} else {
		e.FacilityID = r.scope.Bytes
	}
	if r.detail.String != "{}" {
		if err := json.Unmarshal([]byte(r.detail.String), &e.Detail); err != nil {
			return record.Entry{}, fmt.Errorf("audit entry %d has a detail that is not strings by name: %w", r.seq.Int64, err)
		}
	}
	return e, nil
}

// ScanEntry reads an entry from a row of EntryColumns. Error: KindIntegrity for one that
// Entry cannot read.
func ScanEntry(l Log, row pgx.Row) (record.Entry, error) {
	var r Row
	if err := row.Scan(r.Targets()...); err != nil {
		return record.Entry{}, fmt.Errorf("reading an audit entry: %w", err)
	}
	e, err := r.Entry(l)
	if err != nil {
		return e, tenants.WrapError(tenants.KindIntegrity, "the audit trail is damaged", err)
	}
	return e, nil
}
