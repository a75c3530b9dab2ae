package isolation

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/caresphere/caresphere/tenants"
)

// TestAsManyProofsAsThereAreRoundsTryEveryPair counts whom each tenant is tried against.
func TestAsManyProofsAsThereAreRoundsTryEveryPair(t *testing.T) {
	for _, c := range []struct{ tenants, most int }{{1, 12}, {2, 12}, {13, 12}, {14, 12}, {25, 12}, {26, 12}, {100, 7}, {8, 3}} {
		list := make([]subject, c.tenants)
		for i := range list {
			list[i].id = tenants.NewID()
		}
		first := pairs(c.tenants, c.most, 41)
		require.Equal(t, c.tenants-1 <= c.most, first.All)
		for _, one := range list {
			met := map[tenants.ID]bool{}
			for number := int64(41); number < 41+first.Rounds; number++ {
				p := pairs(c.tenants, c.most, number)
				got := sample(list, one, p.PerTenant, number)
				require.Len(t, got, p.PerTenant)
				for _, o := range got {
					require.NotEqual(t, one.id, o.id, "nobody is tried against itself")
					met[o.id] = true
				}
			}
			require.Len(t, met, c.tenants-1, "%d tenants, %d at once", c.tenants, c.most)
		}
	}
}

func TestDifferencesAreSaidAndMended(t *testing.T) {
	id := tenants.NewID()
	policy := fact{Rank: 5, Object: "client", Property: "policy p", Value: "USING (a)", Make: "CREATE POLICY p ON {tenant}.client USING (a)", Unmake: "DROP POLICY p ON {tenant}.client"}
	changed := policy
	changed.Value, changed.Make = "USING (true)", "CREATE POLICY p ON {tenant}.client USING (true)"
	extra := fact{Rank: 2, Object: "extra", Property: "kind", Value: "rpd", Unmake: "table to set aside"}
	column := fact{Rank: 2, Object: "client", Property: "column x", Value: "text"}

	require.Empty(t, compare([]fact{policy, column}, []fact{column, policy}))
	list := compare([]fact{policy, column}, []fact{changed, extra})
	require.Len(t, list, 3)
	do, left := statements(list, id)
	name := tenants.SchemaName(id)
	require.Contains(t, do, "DROP POLICY p ON "+name+".client")
	require.Contains(t, do, "CREATE POLICY p ON "+name+".client USING (a)")
	require.Contains(t, do, "CREATE SCHEMA IF NOT EXISTS "+evidence)
	for _, sql := range do {
		require.NotContains(t, sql, anyTenant)
		require.NotContains(t, sql, "DROP TABLE", "what nobody declared is evidence")
	}
	require.Len(t, left, 1, "a column that is gone needs a person")
	require.Equal(t, "column x is missing", left[0].Problem)
}
