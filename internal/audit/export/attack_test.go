package export_test

import (
	"bytes"
	"fmt"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/mod/sumdb/note"

	"github.com/caresphere/caresphere/internal/audit"
	"github.com/caresphere/caresphere/internal/audit/audittest"
	"github.com/caresphere/caresphere/internal/audit/export"
	"github.com/caresphere/caresphere/internal/audit/verify"
	"github.com/caresphere/caresphere/internal/testkit/prove"
)

// near tells whether a problem is named within one line of where it was made.
func near(problems []verify.Problem, number int) bool {
	return slices.ContainsFunc(problems, func(p verify.Problem) bool {
		return p.Line >= int64(number-1) && p.Line <= int64(number+1) && p.Line > 0
	})
}

func kinds(r verify.Report) []verify.Kind {
	var out []verify.Kind
	for _, p := range r.Problems {
		out = append(out, p.Kind)
	}
	return out
}

func lines(file []byte) [][]byte {
	return slices.DeleteFunc(bytes.SplitAfter(file, []byte("\n")), func(l []byte) bool { return len(l) == 0 })
}

// attack returns an untouched export of each format, verified, to damage.
func attack(t *testing.T, entries int) (*fixture, map[export.Format][]byte) {
	f := setup(t)
	f.write(t, entries)
	files := map[export.Format][]byte{}
	for _, format := range formats {
		files[format] = f.export(t, format, audit.Filter{})
		require.Empty(t, f.verify(t, files[format]).Problems)
	}
	return f, files
}

func TestEveryLineOperationIsFoundAndNamed(t *testing.T) {
	f, files := attack(t, 130)
	for format, file := range files {
		all := lines(file)
		check := func(number int, what string, damaged ...[]byte) {
			t.Helper()
			r := f.verify(t, slices.Concat(damaged...))
			require.False(t, r.OK, "%s: %s line %d", format, what, number)
			require.True(t, near(r.Problems, number), "%s: %s line %d: %v", format, what, number, r.Problems)
		}
		for i := range all {
			check(i+1, "delete", slices.Concat(all[:i:i], all[i+1:])...)
			check(i+2, "duplicate", slices.Concat(all[:i+1:i+1], all[i:])...)
			if i > 0 {
				check(i, "cut from", all[:i]...)
			}
			check(i+1, "cut inside", slices.Concat(all[:i:i], [][]byte{all[i][:len(all[i])/2]})...)
			check(i+1, "cut the newline of", slices.Concat(all[:i:i], [][]byte{all[i][:len(all[i])-1]})...)
			check(i+1, "end with CRLF", slices.Concat(all[:i:i], [][]byte{bytes.Replace(all[i], []byte("\n"), []byte("\r\n"), 1)}, all[i+1:])...)
			check(i+1, "add an empty line after", slices.Concat(all[:i+1:i+1], [][]byte{[]byte("\n")}, all[i+1:])...)
			if i+1 < len(all) {
				swapped := slices.Clone(all)
				swapped[i], swapped[i+1] = all[i+1], all[i]
				check(i+1, "swap", swapped...)
			}
			moved := slices.Concat(all[:i:i], all[i+1:])
			moved = slices.Insert(moved, (i+len(all)/2)%len(moved), all[i])
			if !slices.EqualFunc(moved, all, bytes.Equal) {
				check(i+1, "move", moved...)
			}
		}
		check(len(all)+1, "append", slices.Concat(all, [][]byte{all[1]})...)
		require.False(t, f.verify(t, nil).OK)
		require.False(t, f.verify(t, []byte("{}\n")).OK)
	}
}

func TestWhatWasRemovedReorderedAndDuplicatedIsCalledSo(t *testing.T) {
	f, files := attack(t, 130)
	for format, file := range files {
		all := lines(file)
		at := 40 // a line of an entry in the first block
		leaf := func(r verify.Report, k verify.Kind) int64 {
			for _, p := range r.Problems {
				if p.Kind == k && p.Leaf != nil {
					return *p.Leaf
				}
			}
			t.Fatalf("%s: no %s in %v", format, k, r.Problems)
			return -1
		}
		first := int64(at - 1)
		if format == export.CSV {
			first--
		}
		r := f.verify(t, slices.Concat(slices.Concat(all[:at:at], all[at+1:])...))
		require.Equal(t, first, leaf(r, verify.Removed))
		r = f.verify(t, slices.Concat(slices.Concat(all[:at+1:at+1], all[at:])...))
		require.Equal(t, first, leaf(r, verify.Duplicated))
		swapped := slices.Clone(all)
		swapped[at], swapped[at+1] = all[at+1], all[at]
		r = f.verify(t, slices.Concat(swapped...))
		require.Equal(t, first, leaf(r, verify.Reordered))
		r = f.verify(t, slices.Concat(all[:at]...))
		require.Equal(t, int64(0), leaf(r, verify.Truncated))
		r = f.verify(t, slices.Concat(all[:len(all)-1]...))
		require.Equal(t, []verify.Kind{verify.Truncated}, kinds(r))
	}
}

func TestForeignKeysAndLogs(t *testing.T) {
	f, files := attack(t, 5)
	other, otherFiles := attack(t, 5)
	for _, format := range formats {
		require.Contains(t, kinds(f.verify(t, otherFiles[format])), verify.ForeignKey)
		require.Contains(t, kinds(other.verify(t, files[format])), verify.ForeignKey)
		require.Equal(t, []verify.Kind{verify.WrongLog}, kinds(f.verify(t, files[format], verify.ForLog(other.ID.String()))))
		require.Empty(t, f.verify(t, files[format], verify.ForLog(f.Log().Origin(1))).Problems)
	}
	// The same hands write an export of the other log in this one's name: its entries
	// cannot be brought under this log's checkpoint.
	mixed := bytes.ReplaceAll(otherFiles[export.JSONLines], []byte(other.ID.String()), []byte(f.ID.String()))
	require.False(t, f.verify(t, mixed).OK)
	_, public := audittest.Key(t, "caresphere-audit")
	_, err := verify.ParseKeys(public)
	require.ErrorContains(t, err, "caresphere-export")
	_, err = verify.ParseKeys("nonsense")
	require.ErrorContains(t, err, "line 1")
}

// Whoever holds the export key and nothing else can sign any bytes, and still
// cannot change the log: the checkpoint is by another key.
func TestAnExporterCannotForge(t *testing.T) {
	f := setup(t)
	f.write(t, 150)
	require.True(t, f.verify(t, f.export(t, export.CSV, audit.Filter{})).OK)
	table := f.Log().Table("audit_entry")
	tamper(t, f, "UPDATE "+table+" SET actor_id = gen_random_uuid() WHERE seq = 70", "audit_entry")
	tamper(t, f, "UPDATE "+f.Log().Table("audit_leaf")+" SET hash = sha256('forged') WHERE seq = 140", "audit_leaf")
	for _, format := range formats {
		r := f.verify(t, f.export(t, format, audit.Filter{}))
		require.False(t, r.OK)
		var leaves []int64
		for _, p := range r.Problems {
			require.Equal(t, verify.Changed, p.Kind, p)
			if p.Leaf != nil {
				leaves = append(leaves, *p.Leaf)
			}
		}
		require.Contains(t, leaves, int64(69))
		require.Contains(t, leaves, int64(139))
	}
}

func TestALogRewrittenAndSignedAgainIsFound(t *testing.T) {
	f := setup(t)
	f.write(t, 90)
	require.True(t, f.verify(t, f.export(t, export.CSV, audit.Filter{})).OK)
	// A superuser changes an entry and builds the whole tree anew with a key of his.
	tamper(t, f, "UPDATE "+f.Log().Table("audit_entry")+" SET action = 'client.update' WHERE seq = 12", "audit_entry")
	for _, table := range []string{"audit_leaf", "audit_hash", "audit_checkpoint"} {
		tamper(t, f, "TRUNCATE "+f.Log().Table(table), table)
	}
	forger := setup(t)
	sealer := f.sealer
	f.sealer.Signer, f.sealer.Verifier, f.sealer.Anchor = forger.sealer.Signer, forger.sealer.Verifier, forger.sealer.Anchor
	for _, format := range formats {
		r := f.verify(t, f.export(t, format, audit.Filter{}))
		require.Contains(t, kinds(r), verify.ForeignKey)
		prove.State(t, prove.AuditForged, 1, 0)
		// With the forger's key in its place nothing is to be seen: the key is what finds it.
		ours := f.keys
		f.keys = forger.keys
		require.NotContains(t, kinds(f.verify(t, f.export(t, format, audit.Filter{}))), verify.Changed)
		f.keys = ours
		prove.Plant(t, prove.AuditForged, 1, 1)
	}
	_, err := sealer.Seal(ctx)
	require.ErrorContains(t, err, "not one that we signed")
}

// tamper changes a table as a superuser with its triggers off.
func tamper(t testing.TB, f *fixture, sql, table string) {
	t.Helper()
	name := f.Log().Table(table)
	audittest.Exec(t, f.super, "ALTER TABLE "+name+" DISABLE TRIGGER ALL")
	audittest.Exec(t, f.super, sql)
	audittest.Exec(t, f.super, "ALTER TABLE "+name+" ENABLE TRIGGER ALL")
}

func TestASuperusersTamperingShowsInTheExport(t *testing.T) {
	for name, test := range map[string]struct {
		sql, table string
		kind       verify.Kind
		leaf       int64
	}{
		"update":    {"UPDATE %s SET outcome = 'ok', action = 'client.forged' WHERE seq = 33", "audit_entry", verify.Changed, 32},
		"at":        {"UPDATE %s SET at = at - interval '1 day' WHERE seq = 33", "audit_entry", verify.Changed, 32},
		"delete":    {"DELETE FROM %s WHERE seq = 34", "audit_entry", verify.Removed, 33},
		"no time":   {"ALTER TABLE %s ALTER at DROP NOT NULL; UPDATE %[1]s SET at = NULL WHERE seq = 33", "audit_entry", verify.Removed, 32},
		"endless":   {"UPDATE %s SET at = 'infinity' WHERE seq = 33", "audit_entry", verify.Removed, 32},
		"detail":    {"ALTER TABLE %s DROP CONSTRAINT audit_entry_detail; UPDATE %[1]s SET detail = detail || '{\"count\": 1}' WHERE seq = 33", "audit_entry", verify.Removed, 32},
		"truncate":  {"TRUNCATE %s", "audit_entry", verify.Removed, 0},
		"leaf":      {"DELETE FROM %s WHERE seq = 35", "audit_leaf", verify.Removed, 34},
		"leaf hash": {"UPDATE %s SET hash = sha256('x') WHERE seq = 35", "audit_leaf", verify.Changed, 34},
		"swap":      {"UPDATE %s SET leaf_index = -1 WHERE leaf_index = 3; UPDATE %[1]s SET leaf_index = 3 WHERE leaf_index = 4; UPDATE %[1]s SET leaf_index = 4 WHERE leaf_index = -1", "audit_leaf", verify.Changed, 0},
	} {
		t.Run(name, func(t *testing.T) {
			f := setup(t)
			f.write(t, 80)
			require.True(t, f.verify(t, f.export(t, export.JSONLines, audit.Filter{})).OK)
			tamper(t, f, fmt.Sprintf(test.sql, f.Log().Table(test.table)), test.table)
			for _, format := range formats {
				file, err := f.tryExport(t, format, audit.Filter{})
				require.NoError(t, err)
				r := f.verify(t, file)
				require.True(t, slices.ContainsFunc(r.Problems, func(p verify.Problem) bool {
					return p.Kind == test.kind && p.Leaf != nil && *p.Leaf == test.leaf
				}), "%v", r.Problems)
				prove.State(t, prove.AuditForged, 1, 0)
			}
		})
	}
}

// The export key signs; without it, what is signed is foreign.
func TestTheFooterNeedsTheExportKey(t *testing.T) {
	f := setup(t)
	f.write(t, 3)
	private, _ := audittest.Key(t, "caresphere-export")
	signer, err := note.NewSigner(private)
	require.NoError(t, err)
	f.signer = signer
	r := f.verify(t, f.export(t, export.JSONLines, audit.Filter{}))
	require.Equal(t, []verify.Kind{verify.ForeignKey}, kinds(r))
}
