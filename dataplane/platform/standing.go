package platform

import (
	"context"
	"net/http"
	"time"

	"github.com/caresphere/caresphere/tenants"
)

// tellTimeout bounds telling one decision.
const tellTimeout = 2 * time.Second

// Stand tells what a member is as of a version; an older one than the control plane
// knows changes nothing there. Errors: KindNotFound if the person has no account in the
// organization, KindInvalid, KindUnavailable.
func (c *Client) Stand(ctx context.Context, tenant, identity tenants.ID, role, status string, version int64) error {
	in := map[string]any{"organization_id": tenant.String(), "role": role, "status": status, "version": version}
	return c.call(ctx, http.MethodPut, "/internal/v1/accounts/"+identity.String()+"/standing", tellTimeout, in, nil)
}

// EndSession ends a session at the identity service too; one that is over already is no
// error. Errors: KindUnavailable.
func (c *Client) EndSession(ctx context.Context, session tenants.ID) error {
	return c.call(ctx, http.MethodDelete, "/internal/v1/sessions/"+session.String(), tellTimeout, nil, nil)
}
