package api

import (
	"context"
	"net/http"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/caresphere/caresphere/controlplane/rotation"
	"github.com/caresphere/caresphere/tenants"
)

// Rotations is what operators ask of tenants' keys; see rotation.Service.
type Rotations interface {
	Ask(ctx context.Context, a tenants.Actor, slug string) (rotation.Status, error)
	Get(ctx context.Context, a tenants.Actor, id tenants.ID) (rotation.Status, error)
	Keys(ctx context.Context, a tenants.Actor, slug, after string, count int) ([]rotation.Key, error)
}

// KeyRotation is a rotation of one organization's key, and how far it is.
type KeyRotation struct {
	ID          tenants.ID `json:"id"`
	Tenant      string     `json:"tenant" doc:"The organization's short name."`
	Cell        string     `json:"cell"`
	AskedBy     string     `json:"asked_by" enum:"schedule,operator"`
	State       string     `json:"state" enum:"waiting,rotating,rewrapping,grace,done,failed" doc:"In grace everything is of the new version, and the old one still unwraps."`
	Reason      string     `json:"reason,omitempty" doc:"Why it does not go on, or failed."`
	FromVersion int        `json:"from_version,omitempty"`
	ToVersion   int        `json:"to_version,omitempty"`
	Wraps       int        `json:"wraps" doc:"How many wrapped keys were found to be of the new version."`
	AskedAt     time.Time  `json:"asked_at"`
	RotatedAt   *time.Time `json:"rotated_at,omitempty"`
	RewrappedAt *time.Time `json:"rewrapped_at,omitempty"`
	RetireAfter *time.Time `json:"retire_after,omitempty" doc:"When the old version is destroyed."`
	FinishedAt  *time.Time `json:"finished_at,omitempty"`
}

func showRotation(s rotation.Status) KeyRotation {
	return KeyRotation{ID: s.ID, Tenant: s.Slug, Cell: s.Cell, AskedBy: s.AskedBy, State: s.State, Reason: s.Reason,
		FromVersion: s.FromVersion, ToVersion: s.ToVersion, Wraps: s.Wraps, AskedAt: s.AskedAt,
		RotatedAt: s.RotatedAt, RewrappedAt: s.RewrappedAt, RetireAfter: s.RetireAfter, FinishedAt: s.FinishedAt}
}

// TenantKey is the key of one organization; never the key itself.
type TenantKey struct {
	Tenant         string      `json:"tenant" doc:"The organization's short name."`
	State          string      `json:"state" doc:"The organization's state."`
	Cell           string      `json:"cell"`
	Gate           string      `json:"gate" enum:"closed,probe,read_only,open"`
	Version        int         `json:"version" doc:"1 for a key that was never rotated."`
	Since          time.Time   `json:"since" doc:"When this version was made."`
	RotationID     *tenants.ID `json:"rotation_id,omitempty" doc:"The newest rotation; absent if there was none."`
	RotationState  string      `json:"rotation_state,omitempty"`
	RotationReason string      `json:"rotation_reason,omitempty"`
}

func showKey(k rotation.Key) TenantKey {
	out := TenantKey{Tenant: k.Slug, State: k.State, Cell: k.Cell, Gate: k.Gate, Version: k.Version, Since: k.Since,
		RotationState: k.RotationState, RotationReason: k.RotationReason}
	if !k.RotationID.IsZero() {
		out.RotationID = &k.RotationID
	}
	return out
}

type rotationOutput struct{ Body KeyRotation }

type rotateInput struct {
	Body struct {
		Tenant string `json:"tenant" minLength:"2" maxLength:"39" doc:"An organization's short name."`
	}
}

// RotationPath names a rotation.
type RotationPath struct {
	ID tenants.ID `path:"id" doc:"The rotation's id."`
}

type keysQuery struct {
	Tenant string `query:"tenant" maxLength:"39" doc:"An organization's short name; absent for all."`
	After  string `query:"after" maxLength:"39" doc:"The short name after which the list goes on: next of the page before."`
	Limit  int    `query:"limit" minimum:"1" maximum:"500" default:"100"`
}

type keysOutput struct {
	Body struct {
		Items []TenantKey `json:"items"`
		Next  string      `json:"next,omitempty" doc:"Give it as after to get the next page."`
	}
}

// RegisterRotations declares the operators' operations on tenants' keys.
func RegisterRotations(r Realm, d Rotations) {
	full, tags := r.Full(), []string{"Keys"}
	huma.Register(r.API, huma.Operation{OperationID: "list-keys", Method: http.MethodGet, Path: "/api/v1/keys",
		Tags: tags, Summary: "Organizations' keys, their versions and newest rotations", Middlewares: full,
		Description: "What the rotations tell of the keys. No key leaves the key service.",
	}, func(ctx context.Context, in *keysQuery) (*keysOutput, error) {
		list, err := d.Keys(ctx, Caller(ctx).Actor(), in.Tenant, in.After, in.Limit)
		if err != nil {
			return nil, err
		}
		out := &keysOutput{}
		out.Body.Items = make([]TenantKey, 0, len(list))
		for _, k := range list {
			out.Body.Items = append(out.Body.Items, showKey(k))
		}
		if len(list) == in.Limit && in.Tenant == "" {
			out.Body.Next = list[len(list)-1].Slug
		}
		return out, nil
	})
	huma.Register(r.API, huma.Operation{OperationID: "ask-key-rotation", Method: http.MethodPost, Path: "/api/v1/key-rotations",
		Tags: tags, Summary: "Ask for the rotation of one organization's key", Middlewares: full, DefaultStatus: http.StatusAccepted, MaxBodyBytes: 4 << 10,
		Description: "The provisioner of the cell does it; requests are served meanwhile. 409 while one is under way, so that asking again rotates once.",
	}, func(ctx context.Context, in *rotateInput) (*rotationOutput, error) {
		s, err := d.Ask(ctx, Caller(ctx).Actor(), in.Body.Tenant)
		return &rotationOutput{showRotation(s)}, err
	})
	huma.Register(r.API, huma.Operation{OperationID: "get-key-rotation", Method: http.MethodGet, Path: "/api/v1/key-rotations/{id}",
		Tags: tags, Summary: "One rotation and how far it is", Middlewares: full,
	}, func(ctx context.Context, in *RotationPath) (*rotationOutput, error) {
		s, err := d.Get(ctx, Caller(ctx).Actor(), in.ID)
		return &rotationOutput{showRotation(s)}, err
	})
}
