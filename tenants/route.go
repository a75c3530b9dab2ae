package tenants

import "time"

// Route says where a tenant's requests go. A tenant whose gate is closed has no route.
type Route struct {
	Slug     string   `json:"slug"`
	TenantID ID       `json:"tenant_id"`
	CellID   string   `json:"cell_id"`
	Epoch    int64    `json:"epoch"`
	Mode     GateMode `json:"mode"`
	// NotAfter is when the BAA expires: router and worker refuse from then on,
	// even when the control plane cannot be reached.
	NotAfter time.Time `json:"not_after"`
}

// Worker is one data-plane process of a cell.
type Worker struct {
	ID     string `json:"id"`
	CellID string `json:"cell_id"`
	// URL is its base address, as "https://127.0.0.1:8465".
	URL string `json:"url"`
}

// RouteTable is a whole snapshot. Version only ever rises.
type RouteTable struct {
	Version  int64     `json:"version"`
	IssuedAt time.Time `json:"issued_at"`
	Routes   []Route   `json:"routes"`
	Workers  []Worker  `json:"workers"`
}
