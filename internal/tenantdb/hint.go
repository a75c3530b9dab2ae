package tenantdb

import (
	"crypto/sha256"
	"encoding/hex"

	"github.com/caresphere/caresphere/tenants"
)

// The channels of a cell's database on which its processes hint to each other that
// something about a tenant changed. A hint is never an order: any login of the
// database may send one, and what it leads to is only to look again.
const (
	// GateChannel: the gate, or the tenant's credential.
	GateChannel = "gate"
	// AuthzChannel: what the tenant's members may reach.
	AuthzChannel = "authz"
)

// HintTag returns what stands for the tenant on a channel: every login may listen,
// so the name tells nothing to those who do not know the tenant already.
func HintTag(channel string, tenant tenants.ID) string {
	sum := sha256.Sum256([]byte(channel + "|" + tenant.String()))
	return hex.EncodeToString(sum[:16])
}
