package fleet

import (
	"context"
	"strconv"

	"github.com/jackc/pgx/v5"

	"github.com/caresphere/caresphere/controlplane/acts"
	"github.com/caresphere/caresphere/internal/audit"
	"github.com/caresphere/caresphere/tenants"
)

// exportPage is how many organizations of an export are read at a time.
var exportPage = maxPage

// Export returns all organizations that the filter selects, newest first, however many
// there are, and leaves an entry that they were taken and how many. The filter's
// Before and Limit are not looked at. Operators only.
func (s *Service) Export(ctx context.Context, a tenants.Actor, f Filter) ([]Organization, error) {
	var all []Organization
	ev := audit.Event{Action: "organization.export", RecordType: "organization"}
	err := acts.Do(ctx, s.pool, a, ev, func(tx pgx.Tx, ev *audit.Event) error {
		if err := operator(a); err != nil {
			return err
		}
		f.Before, f.Limit = tenants.NilID, exportPage
		for {
			page, err := s.query(ctx, tx, f.params())
			if err != nil {
				return err
			}
			all = append(all, page...)
			if len(page) < f.Limit {
				break
			}
			f.Before = page[len(page)-1].ID
		}
		ev.Detail = map[string]string{"count": strconv.Itoa(len(all))}
		if f.Search != "" {
			ev.Detail["search"] = f.Search
		}
		if f.State != "" {
			ev.Detail["state"] = string(f.State)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return all, nil
}
