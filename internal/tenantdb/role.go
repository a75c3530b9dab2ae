package tenantdb

import (
	"fmt"

	"github.com/caresphere/caresphere/tenants"
)

// ConnectionLimit is how many sessions a tenant's role may have, over all workers.
const ConnectionLimit = 24

// RoleStatements are what a tenant's login role is given once it is made: no
// attribute, and limits for whoever gets hold of it (the workers send their own as
// startup parameters). Whether it may log in is the gate's business.
func RoleStatements(tenant tenants.ID) []string {
	// Names of roles and schemas come from ids and need no quoting.
	role, schema := tenants.RoleName(tenant), tenants.SchemaName(tenant)
	return []string{
		fmt.Sprintf("ALTER ROLE %s NOINHERIT NOCREATEDB NOCREATEROLE CONNECTION LIMIT %d", role, ConnectionLimit),
		fmt.Sprintf("ALTER ROLE %s SET statement_timeout = '15s'", role),
		fmt.Sprintf("ALTER ROLE %s SET idle_in_transaction_session_timeout = '30s'", role),
		fmt.Sprintf("ALTER ROLE %s SET search_path = %s", role, schema),
	}
}
