// Package platform is what a worker asks of the control plane: to invite people, to
// prolong sessions in use, to hear what was decided about people, and to be known as a
// worker of its cell.
//
// It owns the form of those calls. It trusts the control plane behind mutual TLS.
// It never sends a tenant's data, and nothing that serves a live tenant waits for it.
package platform

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"strings"
	"time"

	"github.com/caresphere/caresphere/internal/pause"
	"github.com/caresphere/caresphere/tenants"
)

// maxAnswer bounds what is read of an answer, in bytes.
const maxAnswer = 64 << 10

// Client speaks to the control plane. Safe for concurrent use.
type Client struct {
	// URL is its base address, as "https://127.0.0.1:8445".
	URL string
	// HTTP speaks mutual TLS to it.
	HTTP *http.Client
}

// Invite makes an account for the person and mails them; it is idempotent by
// e-mail. Errors: KindConflict if the person belongs to another organization,
// KindInvalid for an address that is refused, KindUnavailable.
func (c *Client) Invite(ctx context.Context, tenant tenants.ID, email, name string) (tenants.ID, error) {
	in := map[string]string{"organization_id": tenant.String(), "email": email, "name": name}
	var out struct {
		IdentityID tenants.ID `json:"identity_id"`
	}
	if err := c.call(ctx, http.MethodPost, "/internal/v1/invitations", 8*time.Second, in, &out); err != nil {
		return tenants.NilID, err
	}
	if out.IdentityID.IsZero() {
		return tenants.NilID, tenants.NewError(tenants.KindUnavailable, "the invitation was not confirmed")
	}
	return out.IdentityID, nil
}

// Extend prolongs a session that was just used.
func (c *Client) Extend(ctx context.Context, session tenants.ID) error {
	return c.call(ctx, http.MethodPost, "/internal/v1/sessions/"+session.String()+"/extend", 3*time.Second, nil, nil)
}

// announceEvery is how often a worker says that it is there.
const announceEvery = 10 * time.Second

// Announce keeps the worker known until the context ends, then takes it out, so
// that routers send nothing new to a worker that drains.
func (c *Client) Announce(ctx context.Context, w tenants.Worker) {
	path := "/internal/v1/workers/" + w.ID
	at := map[string]string{"cell_id": w.CellID, "url": w.URL}
	known := false
	for ctx.Err() == nil {
		wait := announceEvery
		if err := c.call(ctx, http.MethodPut, path, 3*time.Second, at, nil); err != nil {
			if ctx.Err() != nil {
				break
			}
			slog.WarnContext(ctx, "the control plane does not take the heartbeat", "error", err)
			wait = time.Second + rand.N(time.Second) //nolint:gosec // jitter, not a secret
		} else if !known {
			known = true
			slog.InfoContext(ctx, "the worker is known to the control plane", "worker", w.ID)
		}
		_ = pause.For(ctx, wait)
	}
	leave, cancel := context.WithTimeout(context.WithoutCancel(ctx), 3*time.Second)
	defer cancel()
	if err := c.call(leave, http.MethodDelete, path, 3*time.Second, nil, nil); err != nil {
		slog.WarnContext(leave, "the control plane did not take the farewell; routers will find out", "error", err)
	}
}

func (c *Client) call(ctx context.Context, method, path string, timeout time.Duration, in, out any) error {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	var body io.Reader
	if in != nil {
		b, err := json.Marshal(in)
		if err != nil {
			return fmt.Errorf("encoding a call of the control plane: %w", err)
		}
		body = bytes.NewReader(b)
	}
	req, err := http.NewRequestWithContext(ctx, method, strings.TrimSuffix(c.URL, "/")+path, body)
	if err != nil {
		return fmt.Errorf("making a call of the control plane: %w", err)
	}
	if in != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	res, err := c.HTTP.Do(req)
	if err != nil {
		return unavailable(fmt.Errorf("calling the control plane: %w", err))
	}
	defer func() { _ = res.Body.Close() }()
	answer, err := io.ReadAll(io.LimitReader(res.Body, maxAnswer))
	if err != nil {
		return unavailable(fmt.Errorf("reading the control plane's answer: %w", err))
	}
	if res.StatusCode >= http.StatusBadRequest {
		return refused(method, path, res.StatusCode)
	}
	if out == nil {
		return nil
	}
	if err := json.Unmarshal(answer, out); err != nil {
		return unavailable(fmt.Errorf("the control plane's answer is not the JSON expected: %w", err))
	}
	return nil
}

// refused gives an answer its kind. Its text is not passed on.
func refused(method, path string, status int) error {
	cause := fmt.Errorf("%s %s: status %d", method, path, status)
	switch status {
	case http.StatusConflict:
		return tenants.WrapError(tenants.KindConflict, "this person cannot be invited here", cause)
	case http.StatusUnprocessableEntity, http.StatusBadRequest:
		return tenants.WrapError(tenants.KindInvalid, "the control plane refuses what it was given", cause)
	case http.StatusNotFound:
		return tenants.WrapError(tenants.KindNotFound, "not found", cause)
	}
	return unavailable(cause)
}

func unavailable(cause error) error {
	return tenants.WrapError(tenants.KindUnavailable, "please try again shortly", cause)
}
