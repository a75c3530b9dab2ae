package pg

import "context"

// Stray uses a migrator's connection without saying what for.
func (m *Migrator) Stray(ctx context.Context) error {
	_, err := m.pool.Exec(ctx, "SELECT 1")
	return err
}
