package audit

import (
	"strconv"

	"github.com/jackc/pgx/v5"

	"github.com/caresphere/caresphere/tenants"
)

// Channel is the NOTIFY channel that says which log has new entries; the payload
// is a Log's Tag.
const Channel = "audit_dirty"

// originPrefix begins the origin line of every checkpoint (C2SP tlog-checkpoint).
const originPrefix = "caresphere.dev/audit/"

// Log is one audit trail: a tenant's or the control plane's.
type Log struct {
	// TenantID is NilID for the control plane's log.
	TenantID tenants.ID
	// Schema holds the log's tables.
	Schema string
	// Control tells the control database's tables from a tenant's.
	Control bool
}

// TenantLog is the log in a tenant's schema.
func TenantLog(id tenants.ID, schema string) Log { return Log{TenantID: id, Schema: schema} }

// ControlLog is the control plane's own log.
func ControlLog() Log { return Log{Schema: "public", Control: true} }

// Name is the tenant's id, or "control".
func (l Log) Name() string {
	if l.Control {
		return "control"
	}
	return l.TenantID.String()
}

// Origin is the log's name in checkpoints. An epoch that began after a restore
// has an origin of its own, so that its tree is no fork of the one before.
func (l Log) Origin(epoch int) string {
	if epoch <= 1 {
		return originPrefix + l.Name()
	}
	return originPrefix + l.Name() + "/epoch/" + strconv.Itoa(epoch)
}

// Table returns the quoted name of one of the log's tables.
func (l Log) Table(name string) string { return pgx.Identifier{l.Schema, name}.Sanitize() }
