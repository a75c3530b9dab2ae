package tenants

import "time"

// Facility is one place of care of a tenant; the scope that members are assigned to.
type Facility struct {
	ID        ID
	Name      string
	Timezone  string
	CreatedAt time.Time
}
