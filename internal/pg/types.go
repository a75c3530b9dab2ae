package pg

import (
	"errors"
	"fmt"

	"github.com/caresphere/caresphere/tenants"

	"github.com/jackc/pgx/v5/pgtype"
)

// RegisterTypes makes tenants.ID an argument and a scan target for uuid, and
// []tenants.ID for uuid[], without a detour over text. Open and Connect call it
// for every connection; a nullable column is read into a *tenants.ID.
func RegisterTypes(m *pgtype.Map) {
	one := &pgtype.Type{Name: "uuid", OID: pgtype.UUIDOID, Codec: uuidCodec{}}
	m.RegisterType(one)
	m.RegisterType(&pgtype.Type{Name: "_uuid", OID: pgtype.UUIDArrayOID, Codec: &pgtype.ArrayCodec{ElementType: one}})
	m.RegisterDefaultPgType(tenants.ID{}, "uuid")
	m.RegisterDefaultPgType([]tenants.ID{}, "_uuid")
}

// uuidCodec is pgtype's codec that also knows tenants.ID.
type uuidCodec struct{ pgtype.UUIDCodec }

// PlanEncode implements pgtype.Codec.
func (c uuidCodec) PlanEncode(m *pgtype.Map, oid uint32, format int16, value any) pgtype.EncodePlan {
	if _, ok := value.(tenants.ID); ok {
		return encodeID{text: format == pgtype.TextFormatCode}
	}
	return c.UUIDCodec.PlanEncode(m, oid, format, value)
}

// PlanScan implements pgtype.Codec.
func (c uuidCodec) PlanScan(m *pgtype.Map, oid uint32, format int16, target any) pgtype.ScanPlan {
	if _, ok := target.(*tenants.ID); ok {
		return scanID{text: format == pgtype.TextFormatCode}
	}
	return c.UUIDCodec.PlanScan(m, oid, format, target)
}

// DecodeValue implements pgtype.Codec: a target that is an interface gets a tenants.ID.
func (c uuidCodec) DecodeValue(_ *pgtype.Map, _ uint32, format int16, src []byte) (any, error) {
	if src == nil {
		return nil, nil
	}
	var id tenants.ID
	if err := (scanID{text: format == pgtype.TextFormatCode}).Scan(src, &id); err != nil {
		return nil, err
	}
	return id, nil
}

type encodeID struct{ text bool }

// Encode implements pgtype.EncodePlan.
func (p encodeID) Encode(value any, buf []byte) ([]byte, error) {
	id := value.(tenants.ID)
	if p.text {
		return append(buf, id.String()...), nil
	}
	return append(buf, id[:]...), nil
}

type scanID struct{ text bool }

var errNullID = errors.New("pg: a null cannot be read into an id; read into a pointer to one")

// Scan implements pgtype.ScanPlan.
func (p scanID) Scan(src []byte, target any) error {
	id := target.(*tenants.ID)
	switch {
	case src == nil:
		return errNullID
	case p.text:
		return id.UnmarshalText(src)
	case len(src) != 16:
		return fmt.Errorf("pg: an id has 16 bytes, not %d", len(src))
	}
	copy(id[:], src)
	return nil
}
