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

// Grant lets a member act at a facility that is not assigned to them.
type Grant struct {
	ID         tenants.ID  `json:"id" format:"uuid" doc:"The grant's id"`
	MemberID   tenants.ID  `json:"member_id" format:"uuid" doc:"Who may act"`
	FacilityID tenants.ID  `json:"facility_id" format:"uuid" doc:"Where"`
	Reason     string      `json:"reason" maxLength:"500" doc:"Why; never about a client" example:"Covers the night shift"`
	GrantedBy  tenants.ID  `json:"granted_by" format:"uuid" doc:"The owner who granted it"`
	GrantedAt  time.Time   `json:"granted_at" doc:"From when"`
	ExpiresAt  *time.Time  `json:"expires_at,omitempty" doc:"Until when; absent: until revoked"`
	RevokedAt  *time.Time  `json:"revoked_at,omitempty" doc:"When it was revoked"`
	RevokedBy  *tenants.ID `json:"revoked_by,omitempty" format:"uuid" doc:"Who revoked it"`
}

// NewGrant is what a grant is made of.
type NewGrant struct {
	FacilityID tenants.ID `json:"facility_id" format:"uuid" doc:"Where the member may act"`
	Reason     string     `json:"reason" minLength:"1" maxLength:"500" pattern:"\\S" patternDescription:"not blank" doc:"Why; never about a client" example:"Covers the night shift"`
	ExpiresAt  *time.Time `json:"expires_at,omitempty" doc:"Until when, at most a year ahead; absent: until revoked"`
}

// longestGrant bounds a grant that expires.
const longestGrant = 366 * 24 * time.Hour

// Grant makes a cross-facility grant. Errors: KindInvalid for a moment that is not
// ahead, KindNotFound for a member or facility that does not exist, and the door's.
func (s Service) Grant(ctx context.Context, actor tenants.Actor, once access.Once, member tenants.ID, in NewGrant) (Grant, error) {
	if in.ExpiresAt != nil && (!in.ExpiresAt.After(time.Now()) || in.ExpiresAt.After(time.Now().Add(longestGrant))) {
		return Grant{}, tenants.Invalid("body.expires_at", "must lie ahead, by a year at most")
	}
	var out Grant
	err := s.Door.Do(ctx, actor, tenants.PermGrantManage,
		access.Target{Action: "grant.create", RecordType: "grant", FacilityID: in.FacilityID, Detail: map[string]string{"member": member.String()}},
		func(ctx context.Context, tx *access.Tx) error {
			if _, err := tx.GetMember(ctx, member); err != nil {
				return err
			}
			id, repeat, err := tx.Claim(ctx, once)
			if err != nil {
				return err
			}
			tx.About(id, in.FacilityID)
			var row store.FacilityGrant
			if repeat {
				row, err = tx.GetGrant(ctx, id)
			} else {
				row, err = tx.InsertGrant(ctx, store.InsertGrantParams{ID: id, IdentityID: member, FacilityID: in.FacilityID, Reason: in.Reason, ExpiresAt: in.ExpiresAt})
				tx.AuthzChanged()
			}
			if pg.IsCode(err, "23503") {
				return tenants.NotFound()
			}
			if in.ExpiresAt != nil {
				tx.Note("expires_at", in.ExpiresAt.UTC().Format(time.RFC3339))
			}
			out = renderGrant(row)
			return err
		})
	if err != nil {
		return Grant{}, err
	}
	return out, nil
}

// Grants lists a member's grants, ended ones too, oldest first.
func (s Service) Grants(ctx context.Context, actor tenants.Actor, member tenants.ID, c records.Cursor) (records.Page[Grant], error) {
	var out records.Page[Grant]
	err := s.Door.Do(ctx, actor, tenants.PermMemberRead, access.Target{Action: "grant.list", RecordType: "member", RecordID: member},
		func(ctx context.Context, tx *access.Tx) error {
			if _, err := tx.GetMember(ctx, member); err != nil {
				return err
			}
			rows, err := tx.ListGrants(ctx, store.ListGrantsParams{IdentityID: member, After: c.After, PageSize: c.Probe()})
			if err != nil {
				return err
			}
			out, err = records.Cut(c, rows, func(r store.FacilityGrant) tenants.ID { return r.ID },
				func(r store.FacilityGrant) (Grant, error) { return renderGrant(r), nil })
			tx.Note("count", strconv.Itoa(len(out.Items)))
			return err
		})
	if err != nil {
		return records.Page[Grant]{}, err
	}
	return out, nil
}

// Revoke ends a grant now. KindConflict if it was revoked already.
func (s Service) Revoke(ctx context.Context, actor tenants.Actor, id tenants.ID) error {
	return s.Door.Do(ctx, actor, tenants.PermGrantManage, access.Target{Action: "grant.revoke", RecordType: "grant", RecordID: id},
		func(ctx context.Context, tx *access.Tx) error {
			row, err := tx.GetGrant(ctx, id)
			if err != nil {
				return err
			}
			tx.About(id, row.FacilityID)
			tx.Note("member", row.IdentityID.String())
			_, err = tx.RevokeGrant(ctx, id)
			if errors.Is(err, pgx.ErrNoRows) {
				return tenants.NewError(tenants.KindConflict, "the grant was revoked already")
			}
			tx.AuthzChanged()
			return err
		})
}

func renderGrant(r store.FacilityGrant) Grant {
	return Grant{ID: r.ID, MemberID: r.IdentityID, FacilityID: r.FacilityID, Reason: r.Reason, GrantedBy: r.GrantedBy,
		GrantedAt: r.GrantedAt, ExpiresAt: r.ExpiresAt, RevokedAt: r.RevokedAt, RevokedBy: r.RevokedBy}
}
