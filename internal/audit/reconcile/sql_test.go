package reconcile

import (
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestAStatementIsShownWithoutItsValues(t *testing.T) {
	for sql, want := range map[string]string{
		"SELECT 'Doe', 42, $$x$$, E'a\\'b', X'1F' FROM T.Client -- Doe": "select ?, ?, ?, ?, ? from t.client",
		`UPDATE "T"."c""d" SET a='it''s'/* Doe /* nested */ */`:         `update "T"."c""d" set a = ?`,
		"SELECT $1::text, count(*)":                                     "select $1::text, count(*)",
		"SELECT $tag$ Doe; $tag$":                                       "select ?",
		"SELECT 'never ended":                                           "select ?",
		"COPY t.c (a, b) FROM STDIN":                                    "copy t.c(a, b) from stdin",
	} {
		require.Equal(t, want, shown(lex(sql)))
	}
	require.Less(t, len(shown(lex(strings.Repeat("SELECT a, ", 1000)))), maxShown+10)
}

func TestStatementsAreSplitWhereTheServerSplitsThem(t *testing.T) {
	require.Len(t, statements(lex("SELECT ';'; DO $$ BEGIN; END $$;; -- ;\n/* ; */ COMMIT")), 3)
	require.Equal(t, exact(lex("select  A /* x */ , 'B'")), exact(lex("SELECT a, 'B'")))
	require.NotEqual(t, exact(lex("SELECT 'a'")), exact(lex("SELECT 'A'")))
	require.NotEqual(t, exact(lex(`SELECT "a"`)), exact(lex("SELECT 'a'")))
}

func FuzzJudge(f *testing.F) {
	for _, s := range []string{"SELECT 1", "DO $$ x $$", `SELECT U&"d\0061t" FROM "a"."b"`, "COPY t.c TO PROGRAM 'x'", "SELECT 'open", "/* open", "$1$", "E'\\", "\xff\"", "ALTER SYSTEM SET x = 1"} {
		f.Add(s)
	}
	c := &catalog{schemas: map[string]bool{"t_00000000000000000000000000000000": true}, clinical: map[string]bool{"client": true}, all: map[string]bool{"client": true}}
	f.Fuzz(func(t *testing.T, sql string) {
		for _, s := range statements(lex(sql)) {
			c.judge(s)
			named := slices.ContainsFunc(s, func(t token) bool { return t.kind == quoted && strings.ContainsRune(t.text, '\'') })
			if text := shown(s); !named && strings.ContainsRune(text, '\'') {
				t.Fatalf("%q is shown as %q, with a value's quote in it", sql, text)
			}
		}
		// A reach for a table shows whatever stands before it, once that has ended.
		found := false
		for _, s := range statements(lex("SELECT 1 FROM t_00000000000000000000000000000000.client; " + sql)) {
			found = found || c.judge(s).reason != ""
		}
		if !found {
			t.Fatalf("%q hides a reach for a table before it", sql)
		}
	})
}
