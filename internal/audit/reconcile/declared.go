package reconcile

import (
	"fmt"
	"io/fs"
	"strings"

	"github.com/caresphere/caresphere/migrations"
)

// declaredStatements are those that this program's own migrations of a cell and of
// its tenants consist of, up only, with the file that each is in.
func declaredStatements() (map[string]string, error) {
	declared := map[string]string{}
	for _, set := range []fs.FS{migrations.Cell, migrations.Tenant} {
		err := fs.WalkDir(set, ".", func(path string, entry fs.DirEntry, err error) error {
			if err != nil || entry.IsDir() {
				return err
			}
			content, err := fs.ReadFile(set, path)
			if err != nil {
				return err
			}
			up, _, _ := strings.Cut(string(content), "-- +goose Down")
			for _, s := range statements(lex(up)) {
				declared[exact(s)] = path
			}
			return nil
		})
		if err != nil {
			return nil, fmt.Errorf("reading the migrations: %w", err)
		}
	}
	return declared, nil
}
