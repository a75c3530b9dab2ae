package clients

import (
	"context"
	"errors"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/caresphere/caresphere/dataplane/access"
	"github.com/caresphere/caresphere/dataplane/records"
	"github.com/caresphere/caresphere/dataplane/store"
	"github.com/caresphere/caresphere/internal/pg"
	"github.com/caresphere/caresphere/internal/phi"
	"github.com/caresphere/caresphere/tenants"
)

// Service keeps clients.
type Service struct{ Door *access.Door }

const recordType = "client"

// Create admits a client to a facility. Errors: KindInvalid for a date of birth
// ahead of today, KindNotFound for a facility out of scope, KindConflict for a
// record number that is taken there, and the door's.
func (s Service) Create(ctx context.Context, actor tenants.Actor, once access.Once, in NewClient) (Client, error) {
	if err := checkBirthDate(in.BirthDate); err != nil {
		return Client{}, err
	}
	var out Client
	err := s.Door.Do(ctx, actor, tenants.PermClientCreate,
		access.Target{Action: "client.create", RecordType: recordType, FacilityID: in.FacilityID},
		func(ctx context.Context, tx *access.Tx) error {
			id, repeat, err := tx.Claim(ctx, once)
			if err != nil {
				return err
			}
			tx.About(id, in.FacilityID)
			if repeat {
				out, err = get(ctx, tx, id)
				return err
			}
			out, err = insert(ctx, tx, id, in)
			return taken(err)
		})
	return shown(out, err)
}

func insert(ctx context.Context, tx *access.Tx, id tenants.ID, in NewClient) (Client, error) {
	p := store.InsertClientParams{ID: id, FacilityID: in.FacilityID}
	err := sealAll(ctx, tx, table, id, []sealed{
		{"given_name_sealed", in.Name.Given, &p.GivenNameSealed},
		{"family_name_sealed", in.Name.Family, &p.FamilyNameSealed},
		{"birth_date_sealed", in.BirthDate.Text(), &p.BirthDateSealed},
		{"sex_sealed", in.Sex, &p.SexSealed},
		{"gender_sealed", in.Gender, &p.GenderSealed},
		{"record_number_sealed", in.RecordNumber, &p.RecordNumberSealed},
		{"phone_sealed", in.Phone, &p.PhoneSealed},
		{"address_sealed", in.Address, &p.AddressSealed},
	})
	if err != nil {
		return Client{}, err
	}
	i, err := written(ctx, tx, in.Name.Family, in.RecordNumber, in.BirthDate)
	if err != nil {
		return Client{}, err
	}
	p.FamilyIndex, p.RecordNumberIndex, p.BirthDateIndex = i.family, i.recordNumber, i.birthDate
	row, err := tx.InsertClient(ctx, p)
	if err != nil {
		return Client{}, err
	}
	if err := place(ctx, tx, id, in.FacilityID, nil, phi.Text{}); err != nil {
		return Client{}, err
	}
	return open(ctx, tx, row)
}

// Get returns one client of the actor's scope.
func (s Service) Get(ctx context.Context, actor tenants.Actor, id tenants.ID) (Client, error) {
	var out Client
	err := s.Door.Do(ctx, actor, tenants.PermClientRead, access.Target{Action: "client.read", RecordType: recordType, RecordID: id, OneRead: true},
		func(ctx context.Context, tx *access.Tx) (err error) {
			out, err = get(ctx, tx, id)
			return err
		})
	return shown(out, err)
}

func get(ctx context.Context, tx *access.Tx, id tenants.ID) (Client, error) {
	row, err := tx.GetClient(ctx, store.GetClientParams{ID: id, Facilities: tx.Actor.Facilities})
	if err != nil {
		return Client{}, err
	}
	tx.About(id, row.FacilityID)
	return open(ctx, tx, row)
}

// List returns the clients of the actor's scope, oldest record first.
func (s Service) List(ctx context.Context, actor tenants.Actor, c records.Cursor) (records.Page[Client], error) {
	return s.list(ctx, actor, "client.list", nil, c, func(ctx context.Context, tx *access.Tx) ([]store.Client, error) {
		return tx.ListClients(ctx, store.ListClientsParams{Facilities: tx.Actor.Facilities, After: c.After, PageSize: c.Probe()})
	})
}

// Search finds clients of the actor's scope by exact values. KindInvalid for a
// query without any.
func (s Service) Search(ctx context.Context, actor tenants.Actor, q ClientQuery) (records.Page[Client], error) {
	if q.Family.IsZero() && q.RecordNumber.IsZero() && q.BirthDate.IsZero() {
		return records.Page[Client]{}, tenants.Invalid("body", "must have family, record_number or birth_date")
	}
	c := records.Cursor{Limit: q.Limit}
	if q.Cursor != "" {
		id, err := tenants.ParseID(q.Cursor)
		if err != nil {
			return records.Page[Client]{}, tenants.Invalid("body.cursor", "must be a cursor from a page")
		}
		c.After = id
	}
	return s.list(ctx, actor, "client.search", queried(q), c, func(ctx context.Context, tx *access.Tx) ([]store.Client, error) {
		return search(ctx, tx, q, c)
	})
}

// queried tells the trail by what was searched, not for whom.
func queried(q ClientQuery) map[string]string {
	by := ""
	for _, f := range []struct {
		name  string
		given bool
	}{{"family", !q.Family.IsZero()}, {"record_number", !q.RecordNumber.IsZero()}, {"birth_date", !q.BirthDate.IsZero()}} {
		if f.given {
			if by != "" {
				by += ","
			}
			by += f.name
		}
	}
	return map[string]string{"by": by}
}

func search(ctx context.Context, tx *access.Tx, q ClientQuery, c records.Cursor) ([]store.Client, error) {
	i, err := index(ctx, tx, q.Family, q.RecordNumber, q.BirthDate)
	if err != nil {
		return nil, err
	}
	if i.blank(q.Family, q.RecordNumber) != "" {
		// Nobody has such a name or number. To leave the condition out would find others.
		return nil, nil
	}
	scope := tx.Actor.Facilities
	switch {
	case i.recordNumber != nil:
		return tx.SearchByRecordNumber(ctx, store.SearchByRecordNumberParams{Facilities: scope, RecordNumberIndex: i.recordNumber,
			FamilyIndex: i.family, BirthDateIndex: i.birthDate, After: c.After, PageSize: c.Probe()})
	case i.family != nil:
		return tx.SearchByFamily(ctx, store.SearchByFamilyParams{Facilities: scope, FamilyIndex: i.family,
			BirthDateIndex: i.birthDate, After: c.After, PageSize: c.Probe()})
	}
	return tx.SearchByBirthDate(ctx, store.SearchByBirthDateParams{Facilities: scope, BirthDateIndex: i.birthDate,
		After: c.After, PageSize: c.Probe()})
}

func (s Service) list(ctx context.Context, actor tenants.Actor, action string, detail map[string]string, c records.Cursor,
	read func(context.Context, *access.Tx) ([]store.Client, error)) (records.Page[Client], error) {
	var out records.Page[Client]
	err := s.Door.Do(ctx, actor, tenants.PermClientRead, access.Target{Action: action, RecordType: recordType, Detail: detail, OneRead: true},
		func(ctx context.Context, tx *access.Tx) error {
			rows, err := read(ctx, tx)
			if err != nil {
				return err
			}
			out, err = records.Cut(c, rows, func(r store.Client) tenants.ID { return r.ID },
				func(r store.Client) (Client, error) { return open(ctx, tx, r) })
			tx.Note("count", strconv.Itoa(len(out.Items)))
			return err
		})
	if err != nil {
		return records.Page[Client]{}, err
	}
	return out, nil
}

// Update changes a client. KindConflict when the version is not the current one.
func (s Service) Update(ctx context.Context, actor tenants.Actor, id tenants.ID, in ClientChange) (Client, error) {
	if in.BirthDate != nil {
		if err := checkBirthDate(*in.BirthDate); err != nil {
			return Client{}, err
		}
	}
	var out Client
	err := s.Door.Do(ctx, actor, tenants.PermClientUpdate, access.Target{Action: "client.update", RecordType: recordType, RecordID: id},
		func(ctx context.Context, tx *access.Tx) error {
			row, err := tx.GetClient(ctx, store.GetClientParams{ID: id, Facilities: tx.Actor.Facilities})
			if err != nil {
				return err
			}
			tx.About(id, row.FacilityID)
			now, err := open(ctx, tx, row)
			if err != nil {
				return err
			}
			p, err := change(ctx, tx, row, now, in)
			if err != nil {
				return err
			}
			row, err = tx.UpdateClient(ctx, p)
			if errors.Is(err, pgx.ErrNoRows) {
				return tenants.NewError(tenants.KindConflict, "the client was changed meanwhile: read it again")
			}
			if err != nil {
				return taken(err)
			}
			out, err = open(ctx, tx, row)
			return err
		})
	return shown(out, err)
}

// change seals anew what changes and keeps the sealed bytes of what stays.
func change(ctx context.Context, tx *access.Tx, row store.Client, now Client, in ClientChange) (store.UpdateClientParams, error) {
	p := store.UpdateClientParams{ID: row.ID, Version: in.Version, Facilities: tx.Actor.Facilities, Status: row.Status,
		GivenNameSealed: row.GivenNameSealed, FamilyNameSealed: row.FamilyNameSealed, BirthDateSealed: row.BirthDateSealed,
		SexSealed: row.SexSealed, GenderSealed: row.GenderSealed, RecordNumberSealed: row.RecordNumberSealed,
		PhoneSealed: row.PhoneSealed, AddressSealed: row.AddressSealed}
	var fields []sealed
	set := func(column string, v *phi.Text, into *[]byte) {
		if v != nil {
			fields = append(fields, sealed{column, *v, into})
		}
	}
	if in.Status != nil {
		p.Status = *in.Status
	}
	if in.Name != nil {
		now.Name = *in.Name
		set("given_name_sealed", &in.Name.Given, &p.GivenNameSealed)
		set("family_name_sealed", &in.Name.Family, &p.FamilyNameSealed)
	}
	if in.BirthDate != nil {
		now.BirthDate = *in.BirthDate
		text := in.BirthDate.Text()
		set("birth_date_sealed", &text, &p.BirthDateSealed)
	}
	if in.RecordNumber != nil {
		now.RecordNumber = *in.RecordNumber
	}
	set("record_number_sealed", in.RecordNumber, &p.RecordNumberSealed)
	set("sex_sealed", in.Sex, &p.SexSealed)
	set("gender_sealed", in.Gender, &p.GenderSealed)
	set("phone_sealed", in.Phone, &p.PhoneSealed)
	set("address_sealed", in.Address, &p.AddressSealed)
	if err := sealAll(ctx, tx, table, row.ID, fields); err != nil {
		return p, err
	}
	i, err := written(ctx, tx, now.Name.Family, now.RecordNumber, now.BirthDate)
	p.FamilyIndex, p.RecordNumberIndex, p.BirthDateIndex = i.family, i.recordNumber, i.birthDate
	return p, err
}

func checkBirthDate(d phi.Date) error {
	if d.IsZero() || d.After(time.Now().UTC().AddDate(0, 0, 1)) {
		return tenants.Invalid("body.birth_date", "must be a date that is not in the future")
	}
	return nil
}

func taken(err error) error {
	if pg.IsUnique(err, "client_record_number") {
		return tenants.WrapError(tenants.KindConflict, "this record number is taken at the facility", err)
	}
	return err
}

func shown(c Client, err error) (Client, error) {
	if err != nil {
		return Client{}, err
	}
	return c, nil
}
