package api

import (
	"context"
	"net/http"
	"time"

	"github.com/caresphere/caresphere/dataplane/records"
	"github.com/caresphere/caresphere/dataplane/records/sessions"
	"github.com/caresphere/caresphere/dataplane/session"
	"github.com/caresphere/caresphere/tenants"
)

// ownSession is what a member may know of their own session.
type ownSession struct {
	SessionID    tenants.ID           `json:"session_id" format:"uuid" doc:"The session's id"`
	MemberID     tenants.ID           `json:"member_id" format:"uuid" doc:"The signed-in member"`
	Role         tenants.Role         `json:"role" maxLength:"32" doc:"The member's role" example:"nurse"`
	Facilities   []tenants.ID         `json:"facilities" nullable:"false" doc:"Facilities that the member reaches now, grants included"`
	Permissions  []tenants.Permission `json:"permissions" nullable:"false" doc:"What the role allows"`
	Organization ownOrganization      `json:"organization" doc:"The organization"`
	ReadOnly     bool                 `json:"read_only" doc:"Whether writes are refused for now"`
	IdleSeconds  int                  `json:"idle_timeout_seconds" doc:"After so long without a request the session is over" example:"900"`
	ExpiresAt    time.Time            `json:"expires_at" doc:"When the session ends at the latest"`
}

type ownOrganization struct {
	ID          tenants.ID          `json:"id" format:"uuid" doc:"The organization's id"`
	Slug        string              `json:"slug" maxLength:"39" doc:"Its short name" example:"harbor-house"`
	LegalName   string              `json:"legal_name" maxLength:"200" doc:"Its legal name" example:"Harbor House LLC"`
	CareSetting tenants.CareSetting `json:"care_setting" enum:"residential,clinic" doc:"The kind of care it gives" example:"residential"`
}

func (a *API) sessionRoutes() {
	s := sessions.Service{Door: a.cfg.Door, Teller: a.cfg.Teller}
	add(a, operation{method: http.MethodGet, path: "/session", id: "getSession", tag: "Session",
		summary: "Show the own session", about: "Who is signed in, with which role, where, and what that allows."},
		func(ctx context.Context, v session.Visit, _ *TenantPath) (ownSession, error) {
			actor, err := s.Show(ctx, v.Actor)
			if err != nil {
				return ownSession{}, err
			}
			return renderSession(v, actor), nil
		})
	addEmpty(a, operation{method: http.MethodDelete, path: "/session", id: "deleteSession", tag: "Session",
		summary: "Sign out", about: "Ends the own session: its next request is refused."},
		func(ctx context.Context, v session.Visit, _ *TenantPath) error { return s.Logout(ctx, v.Actor) })
}

func renderSession(v session.Visit, actor tenants.Actor) ownSession {
	out := ownSession{SessionID: actor.SessionID, MemberID: actor.ID, Role: actor.Role, Facilities: actor.Facilities,
		ReadOnly: v.ReadOnly, IdleSeconds: int(v.Tenant.Idle.Seconds()), ExpiresAt: v.ExpiresAt, Permissions: []tenants.Permission{},
		Organization: ownOrganization{ID: actor.TenantID, Slug: v.Tenant.Slug, LegalName: v.Tenant.LegalName, CareSetting: v.Tenant.CareSetting}}
	if out.Facilities == nil {
		out.Facilities = []tenants.ID{}
	}
	for _, p := range tenants.Permissions() {
		if tenants.Allowed(actor.Role, p) {
			out.Permissions = append(out.Permissions, p)
		}
	}
	return out
}

func (a *API) signedInRoutes(s sessions.Service) {
	type list struct {
		TenantPath
		PageQuery
	}
	add(a, operation{method: http.MethodGet, path: "/sessions", id: "listSessions", tag: "Sessions",
		summary: "List sessions", about: "Sessions that are neither ended nor idle for too long, with device, address and last use."},
		func(ctx context.Context, v session.Visit, in *list) (records.Page[sessions.Session], error) {
			c, err := in.cursor()
			if err != nil {
				return records.Page[sessions.Session]{}, err
			}
			return s.List(ctx, v.Actor, c)
		})
	addEmpty(a, operation{method: http.MethodDelete, path: "/sessions/{id}", id: "endSession", tag: "Sessions", sensitive: true,
		summary: "End a session", about: "The session's next request is refused."},
		func(ctx context.Context, v session.Visit, in *RecordPath) error { return s.End(ctx, v.Actor, in.ID) })
}
