package e2e_test

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/caresphere/caresphere/internal/devstack"
)

// spellings are the forms in which a planted word might be written down.
func spellings(planted string) map[string][]byte {
	all := map[string][]byte{
		"as it is": []byte(planted), "in capitals": []byte(strings.ToUpper(planted)),
		"in hexadecimal": []byte(hex.EncodeToString([]byte(planted))),
	}
	// In base64 a text looks different by where its first byte falls.
	for shift := range 3 {
		text := base64.StdEncoding.EncodeToString([]byte(strings.Repeat("-", shift) + planted + "---"))
		all[fmt.Sprintf("in base64, %d further", shift)] = []byte(text[2*shift : len(text)-8])
	}
	return all
}

// hunt searches places for words.
type hunt struct {
	words map[string]map[string][]byte // word -> how -> bytes
	// found says where each word stands, searched counts the places of each kind.
	found    map[string][]string
	searched map[string]int
}

func newHunt(words ...string) *hunt {
	h := &hunt{words: map[string]map[string][]byte{}, found: map[string][]string{}, searched: map[string]int{}}
	for _, w := range words {
		h.words[w] = spellings(w)
	}
	return h
}

// place looks through one place of a kind.
func (h *hunt) place(kind, name string, content []byte) {
	h.searched[kind]++
	for word, hows := range h.words {
		for how, spelled := range hows {
			if bytes.Contains(content, spelled) {
				h.found[word] = append(h.found[word], name+" "+how)
			}
		}
	}
}

// in are the places of a word below a folder, or of a name.
func (h *hunt) in(word, prefix string) (all []string) {
	for _, place := range h.found[word] {
		if strings.HasPrefix(place, prefix) {
			all = append(all, place)
		}
	}
	return all
}

// of adds the places of the kinds.
func (h *hunt) of(kinds ...string) (n int) {
	for _, k := range kinds {
		n += h.searched[k]
	}
	return n
}

// The kinds of places. A database server's own files are so many that they would hide
// whether anything else was searched.
const (
	inLogs, inObjects, inServer, inState = "logs", "objects", "a server's files", "other state"
	inRows, inMetrics                    = "rows", "metrics"
)

// files looks through every file below the folders; kind says what one of them is.
func (h *hunt) files(t *testing.T, kind func(path string) string, dirs ...string) {
	t.Helper()
	for _, dir := range dirs {
		err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
			if err != nil || !d.Type().IsRegular() {
				return ignoreGone(err)
			}
			content, err := os.ReadFile(path)
			if err != nil {
				return ignoreGone(err)
			}
			h.place(kind(path), path, content)
			return nil
		})
		require.NoError(t, err)
	}
}

// ignoreGone passes over what a server removed meanwhile.
func ignoreGone(err error) error {
	if err != nil && os.IsNotExist(err) {
		return nil
	}
	return err
}

// rows looks through the rows of every table of a database, which shows what the
// bytes of a compressed value would not.
func (h *hunt) rows(t *testing.T, w *world, database string) {
	t.Helper()
	ctx, db := within(t, time.Minute), w.database(t, database)
	rows, err := db.Query(ctx, `SELECT c.oid::regclass::text FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
		WHERE c.relkind IN ('r', 'm', 'p') AND n.nspname NOT IN ('pg_catalog', 'information_schema')`)
	require.NoError(t, err)
	tables, err := pgx.CollectRows(rows, pgx.RowTo[string])
	require.NoError(t, err)
	var words, hexed []string
	for word := range h.words {
		words, hexed = append(words, word), append(hexed, hex.EncodeToString([]byte(word)))
	}
	for _, table := range tables {
		h.searched[inRows]++
		rows, err := db.Query(ctx, "SELECT w.word FROM unnest($1::text[], $2::text[]) w(word, hexed) "+
			"WHERE EXISTS (SELECT FROM "+table+" x WHERE x::text ILIKE '%' || w.word || '%' OR x::text LIKE '%' || w.hexed || '%')", words, hexed)
		require.NoError(t, err, table)
		there, err := pgx.CollectRows(rows, pgx.RowTo[string])
		require.NoError(t, err, table)
		for _, word := range there {
			h.found[word] = append(h.found[word], database+"."+table)
		}
	}
}

var databases = []string{devstack.ControlDatabase, devstack.CellDatabase, devstack.KratosDatabase, devstack.OpsKratosDatabase}

// everywhere searches all that the stack keeps and says of itself: logs, spans,
// mails, objects, every database's files, write-ahead log and rows (jobs, mails,
// audit entries among them) and the metrics at the given addresses.
func (h *hunt) everywhere(t *testing.T, w *world, metrics ...wire) {
	t.Helper()
	ctx, db := within(t, time.Minute), w.database(t, devstack.ControlDatabase)
	_, err := db.Exec(ctx, "CHECKPOINT")
	require.NoError(t, err)
	var data string
	require.NoError(t, db.QueryRow(ctx, "SHOW data_directory").Scan(&data))
	state := w.Layout().State
	dirs := []string{state}
	if !strings.HasPrefix(data, state) {
		dirs = append(dirs, data)
	}
	h.files(t, func(path string) string {
		for kind, dir := range map[string]string{inServer: data, inLogs: w.Layout().Path("logs"), inObjects: w.Layout().Path("blobs")} {
			if strings.HasPrefix(path, dir) {
				return kind
			}
		}
		return inState
	}, dirs...)
	for _, d := range databases {
		h.rows(t, w, d)
	}
	for _, x := range metrics {
		a := x.do(t, http.MethodGet, "/metrics", nil)
		require.Equal(t, http.StatusOK, a.status)
		require.Contains(t, a.body, "go_goroutines", "%s tells its metrics", x.base)
		h.place(inMetrics, "metrics of "+x.base, []byte(a.body))
	}
}

// metrics are the addresses at which the stack's programs tell theirs.
func (w *world) metrics(t *testing.T) (all []wire) {
	t.Helper()
	for _, program := range devstack.Programs() {
		all = append(all, w.wire(t, w.URL(devstack.HealthPort(program))))
	}
	return all
}
