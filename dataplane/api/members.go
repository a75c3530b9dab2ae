package api

import (
	"context"
	"net/http"

	"github.com/caresphere/caresphere/dataplane/records"
	"github.com/caresphere/caresphere/dataplane/records/members"
	"github.com/caresphere/caresphere/dataplane/session"
	"github.com/caresphere/caresphere/tenants"
)

func (a *API) memberRoutes(s members.Service) {
	type list struct {
		TenantPath
		PageQuery
	}
	add(a, operation{method: http.MethodGet, path: "/members", id: "listMembers", tag: "Members",
		summary: "List members", about: "Everybody of the organization, disabled members too."},
		func(ctx context.Context, v session.Visit, in *list) (records.Page[members.Member], error) {
			c, err := in.cursor()
			if err != nil {
				return records.Page[members.Member]{}, err
			}
			return s.List(ctx, v.Actor, c)
		})
	type create struct {
		TenantPath
		OnceHeader
		Body members.NewMember
	}
	add(a, operation{method: http.MethodPost, path: "/members", id: "createMember", tag: "Members", status: http.StatusCreated, write: true, sensitive: true,
		summary: "Invite a member", about: "Makes the account if there is none, mails an invitation and adds the person with role and facilities."},
		func(ctx context.Context, v session.Visit, in *create) (members.Member, error) {
			once, err := in.once("createMember", tenants.NilID, in.Body)
			if err != nil {
				return members.Member{}, err
			}
			return s.Create(ctx, v.Actor, once, in.Body)
		})
	add(a, operation{method: http.MethodGet, path: "/members/{id}", id: "getMember", tag: "Members",
		summary: "Show a member", about: "One member with role, status and assigned facilities."},
		func(ctx context.Context, v session.Visit, in *RecordPath) (members.Member, error) {
			return s.Get(ctx, v.Actor, in.ID)
		})
	type update struct {
		RecordPath
		Body members.MemberChange
	}
	add(a, operation{method: http.MethodPatch, path: "/members/{id}", id: "updateMember", tag: "Members", write: true, sensitive: true,
		summary: "Change a member", about: "Name, role or status. It takes effect with the member's next request; disabling ends their sessions. The last owner stays one."},
		func(ctx context.Context, v session.Visit, in *update) (members.Member, error) {
			return s.Update(ctx, v.Actor, in.ID, in.Body)
		})
	type assign struct {
		RecordPath
		Body struct {
			Facilities []tenants.ID `json:"facilities" nullable:"false" maxItems:"500" uniqueItems:"true" doc:"All facilities to assign; one that is not named is taken away"`
		}
	}
	add(a, operation{method: http.MethodPut, path: "/members/{id}/facilities", id: "assignFacilities", tag: "Members", write: true, sensitive: true,
		summary: "Assign facilities", about: "Replaces the member's assigned facilities. It takes effect with the member's next request."},
		func(ctx context.Context, v session.Visit, in *assign) (members.Member, error) {
			return s.Assign(ctx, v.Actor, in.ID, in.Body.Facilities)
		})
	a.grantRoutes(s)
}

func (a *API) grantRoutes(s members.Service) {
	type list struct {
		RecordPath
		PageQuery
	}
	add(a, operation{method: http.MethodGet, path: "/members/{id}/grants", id: "listGrants", tag: "Members",
		summary: "List a member's grants", about: "Ended grants too, oldest first."},
		func(ctx context.Context, v session.Visit, in *list) (records.Page[members.Grant], error) {
			c, err := in.cursor()
			if err != nil {
				return records.Page[members.Grant]{}, err
			}
			return s.Grants(ctx, v.Actor, in.ID, c)
		})
	type grant struct {
		RecordPath
		OnceHeader
		Body members.NewGrant
	}
	add(a, operation{method: http.MethodPost, path: "/members/{id}/grants", id: "createGrant", tag: "Members", status: http.StatusCreated, write: true, sensitive: true,
		summary: "Grant a facility", about: "Lets the member act at a facility that is not assigned to them, until the grant expires or is revoked."},
		func(ctx context.Context, v session.Visit, in *grant) (members.Grant, error) {
			once, err := in.once("createGrant", in.ID, in.Body)
			if err != nil {
				return members.Grant{}, err
			}
			return s.Grant(ctx, v.Actor, once, in.ID, in.Body)
		})
	addEmpty(a, operation{method: http.MethodDelete, path: "/grants/{id}", id: "revokeGrant", tag: "Members", write: true, sensitive: true,
		summary: "Revoke a grant", about: "The grant ends now and stays in the list."},
		func(ctx context.Context, v session.Visit, in *RecordPath) error {
			return s.Revoke(ctx, v.Actor, in.ID)
		})
}
