package keyring

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/caresphere/caresphere/internal/kms/driver"
)

// Names implements driver.KMS. A file that is no key's, as one that is being
// written, is passed over; a key file that cannot be trusted is ErrIntegrity.
func (r *Keyring) Names(ctx context.Context) ([]string, error) {
	files, err := os.ReadDir(filepath.Join(r.dir, "keys"))
	if err != nil {
		return nil, fmt.Errorf("keyring: listing keys: %w: %w", driver.ErrUnavailable, err)
	}
	var names []string
	for _, f := range files {
		name, ok := strings.CutSuffix(f.Name(), ".json")
		if !ok || driver.CheckKey(name) != nil {
			continue
		}
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		s, err := r.Status(ctx, name)
		if err != nil {
			return nil, err
		}
		if s.State != driver.StateShredded && s.State != driver.StateAbsent {
			names = append(names, name)
		}
	}
	return names, nil
}
