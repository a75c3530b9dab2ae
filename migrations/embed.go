// Package migrations embeds the SQL that makes the databases: control for the
// control plane's own, cell for what the tenants of a cell share, tenant for one
// tenant's schema. It holds no logic; goose applies the files in order.
package migrations

import "embed"

// Control is the control database's set; Cell a cell database's; Tenant the set
// that every tenant's schema gets.
var (
	//go:embed control/*.sql
	Control embed.FS
	//go:embed cell/*.sql
	Cell embed.FS
	//go:embed tenant/*.sql
	Tenant embed.FS
)
