package record

import (
	"maps"
	"slices"
	"strconv"
	"time"

	"github.com/caresphere/caresphere/tenants"
)

// timeForm is RFC 3339 in UTC with six digits of a second, never fewer.
const timeForm = "2006-01-02T15:04:05.000000Z"

// Append appends the canonical form of the entry: one JSON object (RFC 8259) on
// one line, every field present, in a fixed order, without spaces, an absent id
// as "", details sorted by name, characters escaped only where JSON demands it.
// Equal entries give equal bytes, and different ones different bytes.
func Append(b []byte, e *Entry) []byte {
	b = append(b, `{"seq":`...)
	b = strconv.AppendInt(b, e.Seq, 10)
	b = appendID(append(b, `,"id":`...), e.ID)
	b = append(b, `,"at":"`...)
	b = e.At.UTC().AppendFormat(b, timeForm)
	b = appendString(append(b, `","db_role":`...), e.DBRole)
	b = appendString(append(b, `,"actor_kind":`...), string(e.ActorKind))
	b = appendID(append(b, `,"actor_id":`...), e.ActorID)
	b = appendString(append(b, `,"role":`...), e.Role)
	b = appendID(append(b, `,"session_id":`...), e.SessionID)
	b = appendID(append(b, `,"organization_id":`...), e.OrganizationID)
	b = appendID(append(b, `,"facility_id":`...), e.FacilityID)
	b = appendString(append(b, `,"action":`...), e.Action)
	b = appendString(append(b, `,"record_type":`...), e.RecordType)
	b = appendString(append(b, `,"record_id":`...), e.RecordID)
	b = appendString(append(b, `,"outcome":`...), string(e.Outcome))
	b = appendString(append(b, `,"ip":`...), e.IP)
	b = appendString(append(b, `,"device":`...), e.Device)
	b = appendString(append(b, `,"request_id":`...), e.RequestID)
	b = append(b, `,"detail":{`...)
	for i, k := range slices.Sorted(maps.Keys(e.Detail)) {
		if i > 0 {
			b = append(b, ',')
		}
		b = append(appendString(b, k), ':')
		b = appendString(b, e.Detail[k])
	}
	return append(b, "}}"...)
}

func appendID(b []byte, id tenants.ID) []byte {
	b = append(b, '"')
	if !id.IsZero() {
		b, _ = id.AppendText(b)
	}
	return append(b, '"')
}

const hexDigits = "0123456789abcdef"

// appendString writes a JSON string. Only the quote, the backslash and the C0
// controls are escaped, each in one way.
func appendString(b []byte, s string) []byte {
	b = append(b, '"')
	from := 0
	for i := 0; i < len(s); i++ {
		c := s[i]
		if c >= 0x20 && c != '"' && c != '\\' {
			continue
		}
		b = append(b, s[from:i]...)
		from = i + 1
		if c < 0x20 {
			b = append(b, '\\', 'u', '0', '0', hexDigits[c>>4], hexDigits[c&15])
		} else {
			b = append(b, '\\', c)
		}
	}
	return append(append(b, s[from:]...), '"')
}

// FormatTime gives the canonical form of a time, as it stands in an entry.
func FormatTime(t time.Time) string { return t.UTC().Format(timeForm) }
