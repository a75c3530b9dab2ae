package client

import (
	"context"
	"net/http"
	"net/url"
	"time"
)

// KeyRotation is a rotation of one organization's key; operators' origin.
type KeyRotation struct {
	ID          string     `json:"id"`
	Tenant      string     `json:"tenant"`
	Cell        string     `json:"cell"`
	AskedBy     string     `json:"asked_by"`
	State       string     `json:"state"`
	Reason      string     `json:"reason,omitempty"`
	FromVersion int        `json:"from_version,omitempty"`
	ToVersion   int        `json:"to_version,omitempty"`
	Wraps       int        `json:"wraps"`
	AskedAt     time.Time  `json:"asked_at"`
	RotatedAt   *time.Time `json:"rotated_at,omitempty"`
	RewrappedAt *time.Time `json:"rewrapped_at,omitempty"`
	RetireAfter *time.Time `json:"retire_after,omitempty"`
	FinishedAt  *time.Time `json:"finished_at,omitempty"`
}

// TenantKey is what operators see of an organization's key.
type TenantKey struct {
	Tenant         string    `json:"tenant"`
	State          string    `json:"state"`
	Cell           string    `json:"cell"`
	Gate           string    `json:"gate"`
	Version        int       `json:"version"`
	Since          time.Time `json:"since"`
	RotationID     string    `json:"rotation_id,omitempty"`
	RotationState  string    `json:"rotation_state,omitempty"`
	RotationReason string    `json:"rotation_reason,omitempty"`
}

// Keys returns the key of one organization, or with "" those of all.
func (c *Client) Keys(ctx context.Context, tenant string) ([]TenantKey, error) {
	var all []TenantKey
	for after := ""; ; {
		query := url.Values{"limit": {"500"}}
		if tenant != "" {
			query.Set("tenant", tenant)
		}
		if after != "" {
			query.Set("after", after)
		}
		page, err := fetch[struct {
			Items []TenantKey `json:"items"`
			Next  string      `json:"next"`
		}](ctx, c, Request{Method: http.MethodGet, Path: "/api/v1/keys?" + query.Encode()})
		if err != nil {
			return nil, err
		}
		all = append(all, page.Items...)
		if after = page.Next; after == "" {
			return all, nil
		}
	}
}

// RotateKey asks for the rotation of an organization's key.
func (c *Client) RotateKey(ctx context.Context, tenant string) (KeyRotation, error) {
	return fetch[KeyRotation](ctx, c, Request{Method: http.MethodPost, Path: "/api/v1/key-rotations", Body: map[string]string{"tenant": tenant}})
}

// KeyRotation returns a rotation.
func (c *Client) KeyRotation(ctx context.Context, id string) (KeyRotation, error) {
	return fetch[KeyRotation](ctx, c, Request{Method: http.MethodGet, Path: "/api/v1/key-rotations/" + url.PathEscape(id)})
}
