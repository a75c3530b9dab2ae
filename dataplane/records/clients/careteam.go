package clients

import (
	"context"
	"strconv"
	"time"

	"github.com/caresphere/caresphere/dataplane/access"
	"github.com/caresphere/caresphere/dataplane/store"
	"github.com/caresphere/caresphere/internal/pg"
	"github.com/caresphere/caresphere/tenants"
)

// Carer is a member who looks after a client.
type Carer struct {
	MemberID tenants.ID `json:"member_id" format:"uuid" doc:"The member"`
	Name     string     `json:"name" maxLength:"200" doc:"The member's name" example:"Noor Haddad"`
	Role     string     `json:"role" maxLength:"32" doc:"The member's role" example:"nurse"`
	Duty     string     `json:"duty" enum:"primary,prescriber,nurse,aide,covering" doc:"What for" example:"primary"`
	AddedBy  tenants.ID `json:"added_by" format:"uuid" doc:"Who added the member"`
	AddedAt  time.Time  `json:"added_at" doc:"Since when"`
}

// CareTeam is everybody who looks after a client now.
type CareTeam struct {
	Members []Carer `json:"members" nullable:"false" maxItems:"50" doc:"The team"`
}

// NewCarer names one member of a team.
type NewCarer struct {
	MemberID tenants.ID `json:"member_id" format:"uuid" doc:"The member"`
	Duty     string     `json:"duty" enum:"primary,prescriber,nurse,aide,covering" doc:"What for" example:"primary"`
}

// NewCareTeam replaces a client's team.
type NewCareTeam struct {
	Members []NewCarer `json:"members" nullable:"false" maxItems:"50" doc:"The whole team; who is not named leaves it"`
}

// SetCareTeam replaces the client's team; who left is kept with the time of it.
// KindInvalid if somebody is named twice or is no member.
func (s Service) SetCareTeam(ctx context.Context, actor tenants.Actor, client tenants.ID, in NewCareTeam) (CareTeam, error) {
	seen := map[tenants.ID]bool{}
	for _, m := range in.Members {
		if seen[m.MemberID] {
			return CareTeam{}, tenants.Invalid("body.members", "names somebody twice")
		}
		seen[m.MemberID] = true
	}
	var out CareTeam
	err := s.Door.Do(ctx, actor, tenants.PermClientUpdate,
		access.Target{Action: "care_team.update", RecordType: recordType, RecordID: client},
		func(ctx context.Context, tx *access.Tx) error {
			facility, err := tx.LockClient(ctx, store.LockClientParams{ID: client, Facilities: tx.Actor.Facilities})
			if err != nil {
				return err
			}
			tx.About(client, facility)
			if _, err := tx.EndCareTeamMembers(ctx, store.EndCareTeamMembersParams{ClientID: client, Facilities: tx.Actor.Facilities}); err != nil {
				return err
			}
			for _, m := range in.Members {
				err := tx.InsertCareTeamMember(ctx, store.InsertCareTeamMemberParams{
					ID: tenants.NewID(), ClientID: client, FacilityID: facility, IdentityID: m.MemberID, Duty: m.Duty})
				if pg.IsCode(err, "23503") {
					return tenants.Invalid("body.members", "names somebody who is no member")
				}
				if err != nil {
					return err
				}
			}
			tx.Note("count", strconv.Itoa(len(in.Members)))
			out, err = careTeam(ctx, tx, client)
			return err
		})
	if err != nil {
		return CareTeam{}, err
	}
	return out, nil
}

// CareTeam returns who looks after the client now.
func (s Service) CareTeam(ctx context.Context, actor tenants.Actor, client tenants.ID) (CareTeam, error) {
	var out CareTeam
	err := s.Door.Do(ctx, actor, tenants.PermClientRead,
		access.Target{Action: "care_team.read", RecordType: recordType, RecordID: client},
		func(ctx context.Context, tx *access.Tx) error {
			if _, err := ofClient(ctx, tx, client); err != nil {
				return err
			}
			var err error
			out, err = careTeam(ctx, tx, client)
			tx.Note("count", strconv.Itoa(len(out.Members)))
			return err
		})
	if err != nil {
		return CareTeam{}, err
	}
	return out, nil
}

func careTeam(ctx context.Context, tx *access.Tx, client tenants.ID) (CareTeam, error) {
	rows, err := tx.ListCareTeam(ctx, store.ListCareTeamParams{ClientID: client, Facilities: tx.Actor.Facilities})
	if err != nil {
		return CareTeam{}, err
	}
	out := CareTeam{Members: make([]Carer, 0, len(rows))}
	for _, r := range rows {
		out.Members = append(out.Members, Carer{MemberID: r.IdentityID, Name: r.Name, Role: r.Role, Duty: r.Duty, AddedBy: r.AddedBy, AddedAt: r.AddedAt})
	}
	return out, nil
}
