// Package members keeps who belongs to a tenant, with which role, at which
// facilities, and the grants that reach further for a while.
//
// It owns invitations and their repeats. It trusts the door for who acts and the
// control plane for accounts: it asks it to invite, learns an identity's id, and says
// what became of the person since.
// The database raises a member's authz_version with every change made here, so
// that no worker goes on with what was true before.
package members

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
	"github.com/caresphere/caresphere/tenants"
)

// Member is a person of the tenant.
type Member struct {
	ID         tenants.ID   `json:"id" format:"uuid" doc:"The account's identity"`
	Email      string       `json:"email" format:"email" maxLength:"254" doc:"Unique in the organization" example:"nurse@harbor.example"`
	Name       string       `json:"name" maxLength:"200" doc:"The person's name" example:"Noor Haddad"`
	Role       string       `json:"role" enum:"owner,nurse,med_tech,prescriber,staff,auditor,front_desk,medical_assistant,provider,ownership" doc:"One of the care setting's roles" example:"nurse"`
	Status     string       `json:"status" enum:"active,disabled" doc:"A disabled member is refused everywhere" example:"active"`
	Facilities []tenants.ID `json:"facilities" nullable:"false" maxItems:"500" doc:"Assigned facilities, without grants; owner, auditor and ownership reach all without assignment"`
	Version    int64        `json:"version" doc:"Rises with each change of role, status, assignment or grant; send it back to change the record" example:"1"`
	CreatedAt  time.Time    `json:"created_at" doc:"When the member was added"`
}

// NewMember is who is invited.
type NewMember struct {
	Email      string       `json:"email" format:"email" minLength:"3" maxLength:"254" doc:"Where the invitation goes" example:"nurse@harbor.example"`
	Name       string       `json:"name" minLength:"1" maxLength:"200" pattern:"^\\S(.*\\S)?$" patternDescription:"text without space at its ends" doc:"The person's name" example:"Noor Haddad"`
	Role       string       `json:"role" enum:"owner,nurse,med_tech,prescriber,staff,auditor,front_desk,medical_assistant,provider,ownership" doc:"One of the care setting's roles" example:"nurse"`
	Facilities []tenants.ID `json:"facilities" nullable:"false" maxItems:"500" uniqueItems:"true" doc:"Facilities to assign"`
}

// MemberChange is what may change; an absent field stays.
type MemberChange struct {
	Version int64   `json:"version" minimum:"1" doc:"The version that was read" example:"1"`
	Name    *string `json:"name,omitempty" minLength:"1" maxLength:"200" pattern:"^\\S(.*\\S)?$" patternDescription:"text without space at its ends" doc:"The person's name" example:"Noor Haddad"`
	Role    *string `json:"role,omitempty" enum:"owner,nurse,med_tech,prescriber,staff,auditor,front_desk,medical_assistant,provider,ownership" doc:"One of the care setting's roles" example:"staff"`
	Status  *string `json:"status,omitempty" enum:"active,disabled" doc:"Disabling ends the member's sessions" example:"disabled"`
}

// Invitations asks the control plane to make an account for a person and to mail
// them. It is idempotent by e-mail; KindConflict if the person belongs elsewhere,
// KindUnavailable if the control plane does not answer.
type Invitations interface {
	Invite(ctx context.Context, tenant tenants.ID, email, name string) (identity tenants.ID, err error)
}

// Service keeps members.
type Service struct {
	Door        *access.Door
	Invitations Invitations
	Teller      records.Teller
}

const recordType = "member"

// Create invites a person and adds them. Three steps, each with its own entry or
// none: the decision, the invitation, the row; a repeat after any of them goes on
// from there. Errors: KindInvalid for a role of another care setting or an unknown
// facility, KindConflict for somebody who is a member already, and the door's.
func (s Service) Create(ctx context.Context, actor tenants.Actor, once access.Once, in NewMember) (Member, error) {
	var out Member
	var done bool
	err := s.Door.Do(ctx, actor, tenants.PermMemberManage, access.Target{Action: "member.invite", RecordType: recordType,
		Detail: map[string]string{"role": in.Role}}, func(ctx context.Context, tx *access.Tx) error {
		if err := checkRole(ctx, tx, in.Role); err != nil {
			return err
		}
		id, repeat, err := tx.Repeated(ctx, once)
		if err != nil || !repeat {
			return err
		}
		done = true
		out, err = load(ctx, tx, id)
		return err
	})
	if err != nil {
		return Member{}, err
	}
	if done {
		return out, nil
	}
	target := access.Target{Action: "member.create", RecordType: recordType, Detail: map[string]string{"role": in.Role}}
	id, err := s.Invitations.Invite(ctx, actor.TenantID, in.Email, in.Name)
	if err != nil {
		return Member{}, s.Door.Refuse(ctx, actor, target, err)
	}
	err = s.Door.Do(ctx, actor, tenants.PermMemberManage, target, func(ctx context.Context, tx *access.Tx) error {
		out, err = s.add(ctx, tx, once, id, in)
		return err
	})
	return s.told(ctx, actor, out, err)
}

func (s Service) add(ctx context.Context, tx *access.Tx, once access.Once, id tenants.ID, in NewMember) (Member, error) {
	id, repeat, err := tx.ClaimAs(ctx, once, id)
	if err != nil {
		return Member{}, err
	}
	tx.About(id, tenants.NilID)
	if repeat {
		return load(ctx, tx, id)
	}
	_, err = tx.InsertMember(ctx, store.InsertMemberParams{IdentityID: id, Email: in.Email, Name: in.Name, Role: in.Role})
	if errors.Is(err, pgx.ErrNoRows) || pg.IsUnique(err, "member_email") {
		return Member{}, tenants.NewError(tenants.KindConflict, "this person is a member already")
	}
	if err != nil {
		return Member{}, err
	}
	if err := tx.AssignFacilities(ctx, store.AssignFacilitiesParams{IdentityID: id, Facilities: in.Facilities}); err != nil {
		return Member{}, unknownFacility(err)
	}
	tx.Note("facilities", strconv.Itoa(len(in.Facilities)))
	tx.AuthzChanged()
	return load(ctx, tx, id)
}

// Get returns one member.
func (s Service) Get(ctx context.Context, actor tenants.Actor, id tenants.ID) (Member, error) {
	var out Member
	err := s.Door.Do(ctx, actor, tenants.PermMemberRead, access.Target{Action: "member.read", RecordType: recordType, RecordID: id},
		func(ctx context.Context, tx *access.Tx) (err error) {
			out, err = load(ctx, tx, id)
			return err
		})
	return shown(out, err)
}

// List returns the members by id.
func (s Service) List(ctx context.Context, actor tenants.Actor, c records.Cursor) (records.Page[Member], error) {
	var out records.Page[Member]
	err := s.Door.Do(ctx, actor, tenants.PermMemberRead, access.Target{Action: "member.list", RecordType: recordType},
		func(ctx context.Context, tx *access.Tx) error {
			rows, err := tx.ListMembers(ctx, store.ListMembersParams{After: c.After, PageSize: c.Probe()})
			if err != nil {
				return err
			}
			ids := make([]tenants.ID, len(rows))
			for i, r := range rows {
				ids[i] = r.IdentityID
			}
			assigned, err := assignments(ctx, tx, ids)
			if err != nil {
				return err
			}
			out, err = records.Cut(c, rows, func(r store.ListMembersRow) tenants.ID { return r.IdentityID },
				func(r store.ListMembersRow) (Member, error) {
					return render(store.GetMemberRow(r), assigned[r.IdentityID]), nil
				})
			tx.Note("count", strconv.Itoa(len(out.Items)))
			return err
		})
	if err != nil {
		return records.Page[Member]{}, err
	}
	return out, nil
}

// Update changes name, role or status. The last active owner stays one. Disabling
// ends the member's sessions. KindConflict when the version is not the current one.
func (s Service) Update(ctx context.Context, actor tenants.Actor, id tenants.ID, in MemberChange) (Member, error) {
	var out Member
	err := s.Door.Do(ctx, actor, tenants.PermMemberManage, access.Target{Action: "member.update", RecordType: recordType, RecordID: id},
		func(ctx context.Context, tx *access.Tx) error {
			row, err := tx.GetMember(ctx, id)
			if err != nil {
				return err
			}
			wasOwner := row.Role == string(tenants.RoleOwner) && row.Status == "active"
			if err := apply(ctx, tx, &row, in); err != nil {
				return err
			}
			if wasOwner && (row.Role != string(tenants.RoleOwner) || row.Status != "active") {
				others, err := tx.CountOtherOwners(ctx, id)
				if err != nil {
					return err
				}
				if others == 0 {
					return tenants.NewError(tenants.KindConflict, "the last owner stays one")
				}
			}
			now, err := tx.UpdateMember(ctx, store.UpdateMemberParams{Name: row.Name, Role: row.Role, Status: row.Status, IdentityID: id, Version: in.Version})
			if errors.Is(err, pgx.ErrNoRows) {
				return tenants.NewError(tenants.KindConflict, "the member was changed meanwhile: read it again")
			}
			if err != nil {
				return err
			}
			if now.Status != "active" {
				if _, err := tx.RevokeMemberSessions(ctx, id); err != nil {
					return err
				}
			}
			tx.Note("role", now.Role)
			tx.Note("status", now.Status)
			tx.AuthzChanged()
			out, err = load(ctx, tx, id)
			return err
		})
	return s.told(ctx, actor, out, err)
}

func apply(ctx context.Context, tx *access.Tx, row *store.GetMemberRow, in MemberChange) error {
	if in.Name != nil {
		row.Name = *in.Name
	}
	if in.Role != nil {
		if err := checkRole(ctx, tx, *in.Role); err != nil {
			return err
		}
		row.Role = *in.Role
	}
	if in.Status != nil {
		row.Status = *in.Status
	}
	return nil
}

// Assign replaces the member's assigned facilities.
func (s Service) Assign(ctx context.Context, actor tenants.Actor, id tenants.ID, facilities []tenants.ID) (Member, error) {
	var out Member
	err := s.Door.Do(ctx, actor, tenants.PermMemberManage, access.Target{Action: "member.assign", RecordType: recordType, RecordID: id},
		func(ctx context.Context, tx *access.Tx) error {
			if _, err := tx.LockMember(ctx, id); err != nil {
				return err
			}
			if err := tx.UnassignOthers(ctx, store.UnassignOthersParams{IdentityID: id, Facilities: facilities}); err != nil {
				return err
			}
			if err := tx.AssignFacilities(ctx, store.AssignFacilitiesParams{IdentityID: id, Facilities: facilities}); err != nil {
				return unknownFacility(err)
			}
			tx.Note("facilities", strconv.Itoa(len(facilities)))
			tx.AuthzChanged()
			var err error
			out, err = load(ctx, tx, id)
			return err
		})
	return shown(out, err)
}

func checkRole(ctx context.Context, tx *access.Tx, role string) error {
	s, err := tx.LoadSettings(ctx)
	if err != nil {
		return err
	}
	_, err = tenants.ParseRole(role, tenants.CareSetting(s.CareSetting))
	return err
}

func unknownFacility(err error) error {
	if pg.IsCode(err, "23503") {
		return tenants.Invalid("body.facilities", "names a facility that does not exist")
	}
	return err
}

func load(ctx context.Context, tx *access.Tx, id tenants.ID) (Member, error) {
	row, err := tx.GetMember(ctx, id)
	if err != nil {
		return Member{}, err
	}
	assigned, err := assignments(ctx, tx, []tenants.ID{id})
	if err != nil {
		return Member{}, err
	}
	return render(row, assigned[id]), nil
}

func assignments(ctx context.Context, tx *access.Tx, ids []tenants.ID) (map[tenants.ID][]tenants.ID, error) {
	rows, err := tx.ListAssignments(ctx, ids)
	if err != nil {
		return nil, err
	}
	out := map[tenants.ID][]tenants.ID{}
	for _, r := range rows {
		out[r.IdentityID] = append(out[r.IdentityID], r.FacilityID)
	}
	return out, nil
}

func render(r store.GetMemberRow, assigned []tenants.ID) Member {
	if assigned == nil {
		assigned = []tenants.ID{}
	}
	return Member{ID: r.IdentityID, Email: r.Email, Name: r.Name, Role: r.Role, Status: r.Status,
		Facilities: assigned, Version: r.AuthzVersion, CreatedAt: r.CreatedAt}
}

func shown(m Member, err error) (Member, error) {
	if err != nil {
		return Member{}, err
	}
	return m, nil
}

// told is shown for what the control plane has to hear of.
func (s Service) told(ctx context.Context, actor tenants.Actor, m Member, err error) (Member, error) {
	if err == nil {
		s.Teller.Tell(ctx, actor.TenantID, m.ID)
	}
	return shown(m, err)
}
