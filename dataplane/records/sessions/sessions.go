// Package sessions shows a tenant's sessions and ends them.
//
// It owns no session: Kratos does. It keeps the worker's own mark that one is
// over, which the database checks in every request's transaction, and has the control
// plane end it at Kratos.
package sessions

import (
	"context"
	"strconv"
	"time"

	"github.com/caresphere/caresphere/dataplane/access"
	"github.com/caresphere/caresphere/dataplane/records"
	"github.com/caresphere/caresphere/dataplane/store"
	"github.com/caresphere/caresphere/tenants"
)

// Session is one sign-in of a member.
type Session struct {
	ID        tenants.ID `json:"id" format:"uuid" doc:"The session's id"`
	MemberID  tenants.ID `json:"member_id" format:"uuid" doc:"Whose it is"`
	Name      string     `json:"name" maxLength:"200" doc:"The member's name" example:"Noor Haddad"`
	Role      string     `json:"role" maxLength:"32" doc:"The member's role" example:"nurse"`
	IP        string     `json:"ip" maxLength:"64" doc:"Address it was first seen from" example:"203.0.113.7"`
	Device    string     `json:"device" maxLength:"200" doc:"User agent it was first seen with"`
	FirstSeen time.Time  `json:"first_seen" doc:"When it was first used here"`
	LastSeen  time.Time  `json:"last_seen" doc:"When it was last used here, to 15 seconds"`
}

// Service shows and ends sessions.
type Service struct {
	Door   *access.Door
	Teller records.Teller
}

// List returns the sessions that are neither ended nor idle for too long.
func (s Service) List(ctx context.Context, actor tenants.Actor, c records.Cursor) (records.Page[Session], error) {
	var out records.Page[Session]
	err := s.Door.Do(ctx, actor, tenants.PermSessionManage, access.Target{Action: "session.list", RecordType: "session"},
		func(ctx context.Context, tx *access.Tx) error {
			settings, err := tx.LoadSettings(ctx)
			if err != nil {
				return err
			}
			rows, err := tx.ListSessions(ctx, store.ListSessionsParams{IdleSeconds: settings.IdleTimeoutSeconds, After: c.After, PageSize: c.Probe()})
			if err != nil {
				return err
			}
			out, err = records.Cut(c, rows, func(r store.ListSessionsRow) tenants.ID { return r.SessionID },
				func(r store.ListSessionsRow) (Session, error) {
					return Session{ID: r.SessionID, MemberID: r.IdentityID, Name: r.Name, Role: r.Role, IP: r.Ip, Device: r.Device, FirstSeen: r.FirstSeen, LastSeen: r.LastSeen}, nil
				})
			tx.Note("count", strconv.Itoa(len(out.Items)))
			return err
		})
	if err != nil {
		return records.Page[Session]{}, err
	}
	return out, nil
}

// End ends a session: its next request is refused. KindNotFound if it is over.
func (s Service) End(ctx context.Context, actor tenants.Actor, id tenants.ID) error {
	err := s.Door.Do(ctx, actor, tenants.PermSessionManage, access.Target{Action: "session.end", RecordType: "session", RecordID: id},
		func(ctx context.Context, tx *access.Tx) error {
			row, err := tx.GetSession(ctx, id)
			if err != nil {
				return err
			}
			tx.Note("member", row.IdentityID.String())
			return gone(tx.RevokeSession(ctx, id))
		})
	return s.told(ctx, actor, id, err)
}

// Logout ends the actor's own session. Every role may.
func (s Service) Logout(ctx context.Context, actor tenants.Actor) error {
	err := s.Door.DoOwn(ctx, actor, access.Target{Action: "session.logout", RecordType: "session", RecordID: actor.SessionID},
		func(ctx context.Context, tx *access.Tx) error { return gone(tx.RevokeSession(ctx, actor.SessionID)) })
	return s.told(ctx, actor, actor.SessionID, err)
}

// Show records that the actor looked at their own session and scope. Every role may.
func (s Service) Show(ctx context.Context, actor tenants.Actor) (tenants.Actor, error) {
	err := s.Door.DoOwn(ctx, actor, access.Target{Action: "session.read", RecordType: "session", RecordID: actor.SessionID},
		func(_ context.Context, tx *access.Tx) error {
			actor = tx.Actor
			return nil
		})
	return actor, err
}

func (s Service) told(ctx context.Context, actor tenants.Actor, session tenants.ID, err error) error {
	if err == nil {
		s.Teller.Tell(ctx, actor.TenantID, session)
	}
	return err
}

func gone(changed int64, err error) error {
	if err == nil && changed == 0 {
		return tenants.NotFound()
	}
	return err
}
