package provisioning_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/stretchr/testify/require"

	"github.com/caresphere/caresphere/internal/tenantdb"
	"github.com/caresphere/caresphere/internal/testkit/prove"
	"github.com/caresphere/caresphere/tenants"
)

// attempt is SQL that a tenant's login must not get through, beside SQL of the
// same kind that it may.
type attempt struct {
	name, sql string
	// want is the refusal's SQLSTATE, or "" when the answer must be empty.
	want string
	twin string
}

// assault is one tenant's login at work on another.
type assault struct {
	conn     *pgx.Conn
	key      tenantdb.ContextKey
	attacker *tenant
	// other is the victim's schema and role.
	other string
	named *strings.Replacer
}

// assaultOn logs in as the attacker, with whatever of the victim the attempts name:
// its backend, the number of one of its tables.
func (o *tenant) assaultOn(t *testing.T, victim *tenant) *assault {
	t.Helper()
	ctx := context.Background()
	a := &assault{attacker: o, other: tenants.SchemaName(victim.id)}
	a.conn, a.key = o.login(t)
	there, _ := victim.login(t)
	table := o.b.cellText(t, `SELECT c.oid::text FROM pg_class c WHERE relname = 'member' AND relnamespace = $1::regnamespace`, a.other)
	var pid string
	require.NoError(t, there.QueryRow(ctx, `SELECT pg_backend_pid()::text`).Scan(&pid))
	a.named = strings.NewReplacer("{other}", a.other, "{own}", tenants.SchemaName(o.id), "{victim pid}", pid, "{other table}", table)
	return a
}

// run tries SQL under the attacker's valid owner context and returns what it showed.
func (a *assault) run(sql string) (string, error) {
	ctx := context.Background()
	var out strings.Builder
	err := as(a.conn, a.key, tenantdb.KindMember, a.attacker.actor(a.attacker.owner, tenants.RoleOwner), func(tx pgx.Tx) error {
		results, err := tx.Conn().PgConn().Exec(ctx, a.named.Replace(sql)).ReadAll()
		for _, r := range results {
			for _, row := range r.Rows {
				for _, v := range row {
					out.Write(v)
					out.WriteByte('|')
				}
				out.WriteByte('\n')
			}
		}
		return err
	})
	return out.String(), err
}

// finding says what is not as it must be with an attempt, or nothing.
func (a *assault) finding(try attempt) string {
	got, err := a.run(try.sql)
	var refusal *pgconn.PgError
	switch {
	case try.want == "" && (err != nil || got != ""):
		return fmt.Sprintf("%s: showed %q, %v", try.name, got, err)
	case try.want != "" && (!errors.As(err, &refusal) || refusal.Code != try.want):
		return fmt.Sprintf("%s: not refused as %s: %v, showed %.200q", try.name, try.want, err, got)
	case strings.Contains(got, a.other):
		return fmt.Sprintf("%s: names the other tenant: %.200q", try.name, got)
	}
	if _, err := a.run(try.twin); err != nil {
		return fmt.Sprintf("the twin of %s is refused: %v", try.name, err)
	}
	return ""
}

// TestHostileSQLReadsNothingOfAnotherTenant runs as one tenant's login role, inside
// a transaction with that tenant's valid owner context, against another tenant; and
// then the other way round.
func TestHostileSQLReadsNothingOfAnotherTenant(t *testing.T) {
	b := setup(t)
	one, two := b.provisioned(t), b.provisioned(t)
	tried, found := 0, 0
	for way, a := range map[string]*assault{"one at two": one.assaultOn(t, two), "two at one": two.assaultOn(t, one)} {
		for _, try := range slices.Concat(hostileData, hostileCatalogs, hostileCommands) {
			t.Run(way+"/"+try.name, func(t *testing.T) {
				tried++
				if f := a.finding(try); f != "" {
					found++
					t.Error(f)
				}
			})
		}
	}
	prove.State(t, prove.HostileSQL, tried, found)
}

// TestHostileSQLThatSucceedsIsNoticed plants what would let an attempt through, one
// thing at a time.
func TestHostileSQLThatSucceedsIsNoticed(t *testing.T) {
	b := setup(t)
	victim, attacker := b.provisioned(t), b.provisioned(t)
	a := attacker.assaultOn(t, victim)
	ctx := context.Background()
	planted, noticed := 0, 0
	for _, plant := range []struct{ attempt, do, undo string }{
		{"a qualified table", `GRANT USAGE ON SCHEMA {other} TO {own}; GRANT SELECT ON {other}.member TO {own}`,
			`REVOKE ALL ON {other}.member FROM {own}; REVOKE ALL ON SCHEMA {other} FROM {own}`},
		{"SET ROLE", `GRANT {other} TO {own}`, `REVOKE {other} FROM {own}`},
		{"locks by function", `GRANT EXECUTE ON FUNCTION pg_lock_status() TO PUBLIC`, `REVOKE EXECUTE ON FUNCTION pg_lock_status() FROM PUBLIC`},
		{"columns of all tables", `GRANT SELECT ON pg_attribute TO PUBLIC`, `REVOKE SELECT ON pg_attribute FROM PUBLIC`},
		{"a table in its own schema", `GRANT CREATE ON SCHEMA {own} TO {own}`, `REVOKE CREATE ON SCHEMA {own} FROM {own}`},
		{"pg_read_file", `GRANT EXECUTE ON FUNCTION pg_read_file(text) TO PUBLIC`, `REVOKE EXECUTE ON FUNCTION pg_read_file(text) FROM PUBLIC`},
		{"changing an audit row", `GRANT UPDATE ON {own}.audit_entry TO {own}`, `REVOKE UPDATE ON {own}.audit_entry FROM {own}`},
	} {
		all := slices.Concat(hostileData, hostileCatalogs, hostileCommands)
		i := slices.IndexFunc(all, func(try attempt) bool { return try.name == plant.attempt })
		require.GreaterOrEqual(t, i, 0, "no attempt is called %q", plant.attempt)
		require.Empty(t, a.finding(all[i]), "before anything is planted")
		_, err := b.cellAdmin.Exec(ctx, a.named.Replace(plant.do))
		require.NoError(t, err)
		planted++
		if f := a.finding(all[i]); f != "" {
			noticed++
		} else {
			t.Errorf("%q let %q through unnoticed", plant.do, plant.attempt)
		}
		_, err = b.cellAdmin.Exec(ctx, a.named.Replace(plant.undo))
		require.NoError(t, err)
		require.Empty(t, a.finding(all[i]), "after it is taken back")
	}
	prove.Plant(t, prove.HostileSQL, planted, noticed)
}
