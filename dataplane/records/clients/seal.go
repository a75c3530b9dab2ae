package clients

import (
	"context"

	"github.com/caresphere/caresphere/dataplane/access"
	"github.com/caresphere/caresphere/dataplane/store"
	"github.com/caresphere/caresphere/internal/phi"
	"github.com/caresphere/caresphere/tenants"
)

const table = "client"

// Blind index purposes: one key derivation each, so that equal values of different
// fields do not look equal.
const (
	indexFamily       = "client.family_name"
	indexRecordNumber = "client.record_number"
	indexBirthDate    = "client.birth_date"
)

// sealed is one field on its way into a column.
type sealed struct {
	column string
	value  phi.Text
	into   *[]byte
}

func sealAll(ctx context.Context, tx *access.Tx, table string, row tenants.ID, fields []sealed) error {
	for _, f := range fields {
		b, err := tx.Seal(ctx, table, f.column, row, f.value)
		if err != nil {
			return err
		}
		*f.into = b
	}
	return nil
}

// opened is one column on its way into a field.
type opened struct {
	column string
	sealed []byte
	into   *phi.Text
}

func openAll(ctx context.Context, tx *access.Tx, table string, row tenants.ID, fields []opened) error {
	for _, f := range fields {
		v, err := tx.Open(ctx, table, f.column, row, f.sealed)
		if err != nil {
			return err
		}
		*f.into = v
	}
	return nil
}

// indexes are the blind indexes of the fields that are searched.
type indexes struct{ family, recordNumber, birthDate []byte }

func index(ctx context.Context, tx *access.Tx, family, recordNumber phi.Text, birth phi.Date) (i indexes, err error) {
	if i.family, err = tx.BlindIndex(ctx, indexFamily, phi.NormalizeName(family)); err != nil {
		return i, err
	}
	if i.recordNumber, err = tx.BlindIndex(ctx, indexRecordNumber, phi.NormalizeIdentifier(recordNumber)); err != nil {
		return i, err
	}
	i.birthDate, err = tx.BlindIndex(ctx, indexBirthDate, birth.Text())
	return i, err
}

// blank names the field that has a value in which nothing can be searched for, as
// white space or signs alone; empty for none.
func (i indexes) blank(family, recordNumber phi.Text) string {
	switch {
	case i.family == nil && !family.IsZero():
		return "name.family"
	case i.recordNumber == nil && !recordNumber.IsZero():
		return "record_number"
	}
	return ""
}

// written are the indexes of what is stored. KindInvalid for a name or number
// under which nobody could find the client again.
func written(ctx context.Context, tx *access.Tx, family, recordNumber phi.Text, birth phi.Date) (indexes, error) {
	i, err := index(ctx, tx, family, recordNumber, birth)
	if err != nil {
		return indexes{}, err
	}
	if field := i.blank(family, recordNumber); field != "" {
		return indexes{}, tenants.Invalid("body."+field, "must have a letter or a digit")
	}
	return i, nil
}

func open(ctx context.Context, tx *access.Tx, r store.Client) (Client, error) {
	c := Client{ID: r.ID, FacilityID: r.FacilityID, Status: r.Status, Version: r.Version,
		CreatedBy: r.CreatedBy, CreatedAt: r.CreatedAt, UpdatedBy: r.UpdatedBy, UpdatedAt: r.UpdatedAt}
	var birth phi.Text
	err := openAll(ctx, tx, table, r.ID, []opened{
		{"given_name_sealed", r.GivenNameSealed, &c.Name.Given},
		{"family_name_sealed", r.FamilyNameSealed, &c.Name.Family},
		{"birth_date_sealed", r.BirthDateSealed, &birth},
		{"sex_sealed", r.SexSealed, &c.Sex},
		{"gender_sealed", r.GenderSealed, &c.Gender},
		{"record_number_sealed", r.RecordNumberSealed, &c.RecordNumber},
		{"phone_sealed", r.PhoneSealed, &c.Phone},
		{"address_sealed", r.AddressSealed, &c.Address},
	})
	if err != nil {
		return Client{}, err
	}
	if c.BirthDate, err = phi.ParseDate(birth); err != nil {
		return Client{}, tenants.WrapError(tenants.KindIntegrity, "a stored value failed its check", err)
	}
	return c, nil
}
