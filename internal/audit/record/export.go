package record

import (
	"strconv"
	"strings"
	"time"

	"github.com/caresphere/caresphere/tenants"
)

// The export's format; package export describes it.
const (
	// ExportFormat names the format in an export's header and in its signature.
	ExportFormat = "caresphere.dev/audit-export/v1"
	// BlockSize is how many leaves are proven together; ranges are whole blocks.
	BlockSize = 64
)

// The kinds of line of an export.
const (
	LineHeader = "header"
	// LineEntry has an entry in full.
	LineEntry = "entry"
	// LineWithheld has the leaf hash of an entry that the filter did not choose.
	LineWithheld = "withheld"
	// LineMissing has the leaf hash of an entry that the database lacks, or has in no form
	// that an entry can have.
	LineMissing = "missing"
	// LineBlock proves the block before it, or stands for a block with nothing chosen.
	LineBlock  = "block"
	LineFooter = "footer"
)

// Scope is an export's filter as its header states it; empty fields do not restrict.
type Scope struct {
	Actor        string `json:"actor,omitempty"`
	From         string `json:"from,omitempty"`
	To           string `json:"to,omitempty"`
	RecordType   string `json:"record_type,omitempty"`
	RecordID     string `json:"record_id,omitempty"`
	Action       string `json:"action,omitempty"`
	Outcome      string `json:"outcome,omitempty"`
	Facility     string `json:"facility,omitempty"`
	Organization string `json:"organization,omitempty"`
}

// Header is the content of an export's first line.
type Header struct {
	Format string `json:"format"`
	// Log is the origin in the checkpoint.
	Log   string `json:"log"`
	Epoch int    `json:"epoch"`
	Scope Scope  `json:"scope"`
	// FromLeaf is inclusive, ToLeaf exclusive; both stand at block borders or the tree's end.
	FromLeaf int64 `json:"from_leaf"`
	ToLeaf   int64 `json:"to_leaf"`
	TreeSize int64 `json:"tree_size"`
	// Checkpoint is the signed tree head; empty for a tree of no entries.
	Checkpoint string `json:"checkpoint"`
	MadeAt     string `json:"made_at"`
}

// Block is the content of a block line: a subtree of at most BlockSize leaves, its
// root, and the audit path from there to the tree's root (RFC 6962, 2.1.1, with
// blocks as leaves). Hashes are in lower case hexadecimal.
type Block struct {
	Count int      `json:"count"`
	Root  string   `json:"root"`
	Path  []string `json:"path"`
}

// Footer is the content of an export's last line. Note signs FooterText.
type Footer struct {
	Entries int64  `json:"entries"`
	Lines   int64  `json:"lines"`
	SHA256  string `json:"sha256"`
	Note    string `json:"note"`
}

// FooterText is what the export key signs: the log, the tree, and every byte
// before the footer.
func FooterText(log string, treeSize, entries, lines int64, sha256 string) string {
	return strings.Join([]string{ExportFormat, log, strconv.FormatInt(treeSize, 10),
		strconv.FormatInt(entries, 10), strconv.FormatInt(lines, 10), sha256, ""}, "\n")
}

// Columns are the titles of a CSV export. The last two are the line's content and
// the running hash; those from "seq" to "detail" are Cells, for reading.
func Columns() []string {
	return []string{"kind", "leaf", "hash", "seq", "id", "at", "db_role", "actor_kind", "actor_id", "role", "session_id",
		"organization_id", "facility_id", "action", "record_type", "record_id", "outcome", "ip", "device", "request_id",
		"content", "chain"}
}

// Cells are an entry's readable columns in a CSV export. A spreadsheet must not
// take one for a formula, so those that could be are put behind an apostrophe
// (OWASP, CSV injection); control characters become spaces.
func Cells(e *Entry) []string {
	cells := []string{strconv.FormatInt(e.Seq, 10), idText(e.ID), FormatTime(e.At), e.DBRole, string(e.ActorKind),
		idText(e.ActorID), e.Role, idText(e.SessionID), idText(e.OrganizationID), idText(e.FacilityID), e.Action,
		e.RecordType, e.RecordID, string(e.Outcome), e.IP, e.Device, e.RequestID}
	for i, c := range cells {
		cells[i] = safeCell(c)
	}
	return cells
}

func safeCell(s string) string {
	for i := range len(s) {
		if s[i] < 0x20 || s[i] == 0x7f {
			s = strings.Map(blankControl, s)
			break
		}
	}
	if s != "" && (s[0] == '=' || s[0] == '+' || s[0] == '-' || s[0] == '@') {
		return "'" + s
	}
	return s
}

func blankControl(r rune) rune {
	if r < 0x20 || r == 0x7f {
		return ' '
	}
	return r
}

func idText(id tenants.ID) string {
	if id.IsZero() {
		return ""
	}
	return id.String()
}

// ParseTime reads the canonical form of a time and refuses every other.
func ParseTime(s string) (time.Time, error) {
	t, err := time.Parse(timeForm, s)
	if err == nil && FormatTime(t) != s {
		err = ErrNotCanonical
	}
	return t, err
}
