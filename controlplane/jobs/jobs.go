// Package jobs declares the arguments of the platform's background work: the
// words in which the control plane asks and the provisioner answers.
//
// It owns the names and fields of jobs and nothing else. A job is inserted in
// the transaction that made it necessary, so that neither exists without the
// other. Arguments carry ids only: they lie in a table in plain text and appear
// in operators' tools, so no name, address or PHI ever goes into them.
package jobs

import (
	"github.com/riverqueue/river"
	"github.com/riverqueue/river/rivertype"

	"github.com/caresphere/caresphere/tenants"
)

// The queues of no cell, which every provisioner works. One that takes another cell's
// job from there hands it over to that cell's own queue.
const (
	// AnyProvision is for organizations that have no place yet.
	AnyProvision = "provision"
	// AnyGate is where gates were asked for before each cell had a queue.
	AnyGate = "gate"
)

// QueueProvision is the queue of one cell's organizations: only its own provisioner
// has the rights to take their steps.
func QueueProvision(cell string) string { return "provision-" + cell }

// QueueGate is the queue of one cell's gates. It has workers of its own, so that no
// amount of provisioning delays a closing.
func QueueGate(cell string) string { return "gate-" + cell }

// QueueRenew is the queue of one cell's credentials, so that each cell's are renewed
// whoever leads the others' background work.
func QueueRenew(cell string) string { return "renew-" + cell }

// Provision brings an organization with an executed agreement to life, step by
// step, in the cell of the queue or, from AnyProvision, in one that has room. It is
// not declared unique: a retry may be asked for while the failed job is still being
// put away, and must not vanish. The provisioning lease keeps two of them from acting
// at once.
type Provision struct {
	OrganizationID tenants.ID `json:"organization_id"`
}

// Kind implements river.JobArgs.
func (Provision) Kind() string { return "provision" }

// InsertOpts implements river.JobArgsWithInsertOpts.
func (Provision) InsertOpts() river.InsertOpts {
	return river.InsertOpts{Priority: 2, Queue: AnyProvision}
}

// ApplyGate carries a gate decision to where it holds: the tenant's login role,
// its connections and its key. Version is the decision that asked for it; the
// worker applies the newest one it finds and ignores an older one. Whoever inserts
// names the cell's queue, for the job has no cell.
type ApplyGate struct {
	OrganizationID tenants.ID `json:"organization_id"`
	Version        int64      `json:"version"`
}

// Kind implements river.JobArgs.
func (ApplyGate) Kind() string { return "apply_gate" }

// InsertOpts implements river.JobArgsWithInsertOpts: closing a gate goes before
// everything else that waits.
func (ApplyGate) InsertOpts() river.InsertOpts {
	return river.InsertOpts{Priority: 1, Queue: AnyGate}
}

// RenewCredentials replaces the credentials of a cell's tenants before they expire.
// Whoever inserts names the cell's queue.
type RenewCredentials struct{}

// Kind implements river.JobArgs.
func (RenewCredentials) Kind() string { return "renew_credentials" }

// InsertOpts implements river.JobArgsWithInsertOpts: of several provisioners of a cell
// one at a time renews.
func (RenewCredentials) InsertOpts() river.InsertOpts {
	return river.InsertOpts{Priority: 3, UniqueOpts: river.UniqueOpts{ByQueue: true, ByState: []rivertype.JobState{
		rivertype.JobStateAvailable, rivertype.JobStatePending, rivertype.JobStateRetryable, rivertype.JobStateRunning, rivertype.JobStateScheduled}}}
}

// SendMail delivers one message of the mail table.
type SendMail struct {
	MailID tenants.ID `json:"mail_id"`
}

// Kind implements river.JobArgs.
func (SendMail) Kind() string { return "send_mail" }

// InsertOpts implements river.JobArgsWithInsertOpts.
func (SendMail) InsertOpts() river.InsertOpts { return river.InsertOpts{Priority: 2} }

// QueueIsolation is the queue of one cell's proofs and repairs: only its own
// provisioner has the rights for them.
func QueueIsolation(cell string) string { return "isolation-" + cell }

// Isolation does one run of isolation_run: a proof, a plan or a repair. Cell is
// that of the run.
type Isolation struct {
	RunID tenants.ID `json:"run_id"`
	Cell  string     `json:"cell"`
}

// Kind implements river.JobArgs.
func (Isolation) Kind() string { return "isolation" }

// InsertOpts implements river.JobArgsWithInsertOpts.
func (i Isolation) InsertOpts() river.InsertOpts {
	return river.InsertOpts{Priority: 2, Queue: QueueIsolation(i.Cell), MaxAttempts: 4}
}

// QueueRotate is the queue of one cell's key rotations: only its own provisioner has
// the rights for them. Whoever inserts names it, for the job has no cell.
func QueueRotate(cell string) string { return "rotate-" + cell }

// RotateKey takes the rotation of the organization's key that is under way as far as
// it goes. It is not declared unique, for the same reason as Provision.
type RotateKey struct {
	OrganizationID tenants.ID `json:"organization_id"`
}

// Kind implements river.JobArgs.
func (RotateKey) Kind() string { return "rotate_key" }

// InsertOpts implements river.JobArgsWithInsertOpts.
func (RotateKey) InsertOpts() river.InsertOpts { return river.InsertOpts{Priority: 3} }
