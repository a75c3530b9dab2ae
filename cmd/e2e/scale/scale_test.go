package scale_test

import (
	"context"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/caresphere/caresphere/controlplane/provisioning"
	"github.com/caresphere/caresphere/internal/client"
	"github.com/caresphere/caresphere/internal/devstack"
	"github.com/caresphere/caresphere/internal/isolation"
	"github.com/caresphere/caresphere/internal/pg"
	"github.com/caresphere/caresphere/internal/routes"
	"github.com/caresphere/caresphere/internal/testkit"
	"github.com/caresphere/caresphere/migrations"
)

// What the environment sets: the numbers of tenants to measure at, ascending; the
// file to write the figures to; how long each load lasts; the folder of a stack that is
// kept, so that thousands of tenants need not be made in one go.
const (
	sizesEnv = "CARESPHERE_SCALE"
	fileEnv  = "CARESPHERE_SCALE_FILE"
	loadEnv  = "CARESPHERE_SCALE_LOAD"
	keepEnv  = "CARESPHERE_SCALE_KEEP"
)

// clients is how many send requests at once, few enough for two cores to answer
// without a queue; hot is how many tenants the smallest load is of; firsts of those
// that are new at a size have a first request, and take part in the loads.
const (
	clients = 4
	hot     = 10
	firsts  = 500
)

// buffers are the pages that PostgreSQL keeps, by how many tenants there will be: half a
// megabyte of catalogs each, which do not fit into what it takes by itself.
func buffers(most int) string { return fmt.Sprintf("%dMB", max(1024, most/2)) }

// stack is the running platform that grows.
type stack struct {
	*testkit.RunningStack
	roots    *x509.CertPool
	template template
	operator *client.Client
	measured []figures
	// served are the tenants that have had a first request.
	served []*tenant
}

// superuser looks and plants.
func (s *stack) superuser(t testing.TB, database string) *pgx.Conn {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), s.Superuser(database))
	require.NoError(t, err)
	t.Cleanup(func() { _ = conn.Close(context.Background()) })
	return conn
}

// figures are what one number of tenants gave.
type figures struct {
	Tenants int `json:"tenants"`
	// Provisioning is the time to make those that are new, New of them.
	New          int           `json:"new"`
	Provisioning time.Duration `json:"provisioning"`
	Loads        []latencies   `json:"loads"`
	// Sealed is how long after the last request every entry was sealed.
	Sealed time.Duration `json:"sealed"`
	// SealLag is how long one tenant's entry takes to be sealed while all logs are swept.
	SealLag time.Duration `json:"seal_lag"`
	// Idle is the CPU that a program uses while nobody asks anything, in cores.
	Idle map[string]float64 `json:"idle"`
	// Memory is what a program holds, in bytes; Backends those of PostgreSQL.
	Memory   map[string]int64 `json:"memory"`
	Backends int              `json:"backends"`
	// Cell, Objects and Keys are bytes on disk; Relations the rows of pg_class.
	Cell      int64 `json:"cell"`
	Objects   int64 `json:"objects"`
	Keys      int64 `json:"keys"`
	Relations int64 `json:"relations"`
	// Table is the route table in bytes, Published the time from a change to its effect.
	Table     int           `json:"route_table"`
	Published time.Duration `json:"published"`
	// Restarted is the time that a worker takes from its start until it answers.
	Restarted time.Duration `json:"restarted"`
	// Unchanged and Migrated are the times of a fan-out with nothing and with one
	// migration to do; Proof of a proof of isolation of all.
	Unchanged time.Duration `json:"fanout_unchanged"`
	Migrated  time.Duration `json:"fanout_migrated"`
	Proof     time.Duration `json:"proof"`
}

// BenchmarkScale is run once, by make scale: it takes from minutes to hours.
func BenchmarkScale(b *testing.B) {
	var t testing.TB = b
	sizes := sizes(t)
	s := &stack{RunningStack: testkit.Stack(t, testkit.Named("scale"), testkit.SharedBuffers(buffers(slices.Max(sizes))), testkit.Kept(os.Getenv(keepEnv)))}
	s.roots = s.Roots(t)
	var all []*tenant
	for _, size := range sizes {
		f := figures{Tenants: size}
		fresh := s.seed(t, &f, len(all))
		if s.operator == nil { // after those who wait, who would be provisioned before the model
			s.template = s.model(t)
		}
		s.staff(t, fresh)
		all = append(all, fresh...)
		s.measure(t, &f, all, fresh[:min(firsts, len(fresh))])
		s.measured = append(s.measured, f)
		keep(t, s.measured)
	}
}

// measure takes all figures at one size.
func (s *stack) measure(t testing.TB, f *figures, all, fresh []*tenant) {
	t.Helper()
	c := s.caller(t)
	length := 15 * time.Second
	if d, err := time.ParseDuration(os.Getenv(loadEnv)); err == nil {
		length = d
	}
	said := func(l latencies) {
		t.Logf("%d tenants: %s: %d requests, %.0f/s, p50 %s, p99 %s, longest %s", f.Tenants, l.Load, l.Requests, l.PerSecond, l.P50, l.P99, l.Max)
		f.Loads = append(f.Loads, l)
	}
	said(drive(t, "first requests of new tenants", clients, time.Hour, each(fresh), c.admit))
	s.served = append(s.served, fresh...)
	_ = drive(t, "warming", clients, length/3, even(all[:hot]), c.read)
	said(drive(t, "ten tenants", clients, length, even(all[:hot]), c.read))
	said(drive(t, fmt.Sprintf("uneven among %d", len(s.served)), clients, length, uneven(s.served), c.read))
	said(drive(t, fmt.Sprintf("even among %d", len(s.served)), clients, length, even(s.served), c.read))
	begun := time.Now()
	s.sealed(t, s.served)
	f.Sealed = time.Since(begun)
	s.sealed(t, all)
	f.SealLag = s.sealLag(t, c, all[0])
	s.rest(t, f, 90*time.Second)
	s.disk(t, f)
	s.table(t, f, s.served[len(s.served)-1], c)
	begun = time.Now()
	s.Kill(t, devstack.WorkerA)
	health := s.caller(t)
	require.Eventually(t, func() bool {
		res, err := health.http.Get(s.URL(devstack.HealthPort(devstack.WorkerA)) + "/readyz")
		if err != nil {
			return false
		}
		_ = res.Body.Close()
		return res.StatusCode == http.StatusOK
	}, 2*time.Minute, 20*time.Millisecond)
	f.Restarted = time.Since(begun)
	keep(t, append(slices.Clone(s.measured), *f))
	t.Logf("%d tenants: sealed %s later, lag %s; idle %v; table %d KB, published in %s; worker back in %s", f.Tenants, f.Sealed, f.SealLag, f.Idle, f.Table>>10, f.Published, f.Restarted)
	s.fanout(t, f, all)
	keep(t, append(slices.Clone(s.measured), *f))
	t.Logf("%d tenants: fan-out %s and %s", f.Tenants, f.Unchanged, f.Migrated)
	s.proof(t, f)
	t.Logf("%d tenants: sealed %s later, lag %s; idle %v; memory %v, %d backends; cell %d MB, objects %d MB, keys %d MB, %d relations; table %d KB, published in %s; worker back in %s; fan-out %s and %s; proof %s",
		f.Tenants, f.Sealed, f.SealLag, f.Idle, f.Memory, f.Backends, f.Cell>>20, f.Objects>>20, f.Keys>>20, f.Relations, f.Table>>10, f.Published, f.Restarted, f.Unchanged, f.Migrated, f.Proof)
}

// unsealed counts the logs that have entries past their last sealed one. What a
// connection learns of tables it keeps: a new one looks at each few hundred.
func (s *stack) unsealed(t testing.TB, some []*tenant) (left int) {
	t.Helper()
	for part := range slices.Chunk(some, 500) {
		cell, err := pgx.Connect(t.Context(), s.Superuser(devstack.CellDatabase))
		require.NoError(t, err)
		for _, n := range part {
			schema := n.schema()
			var behind bool
			require.NoError(t, cell.QueryRow(t.Context(), `SELECT EXISTS (SELECT 1 FROM `+schema+`.audit_entry) AND NOT EXISTS (SELECT 1 FROM `+schema+`.audit_entry AS e
				JOIN `+schema+`.audit_leaf AS l ON l.seq = e.seq WHERE e.seq = (SELECT max(seq) FROM `+schema+`.audit_entry))`, pgx.QueryExecModeExec).Scan(&behind))
			if behind {
				left++
			}
		}
		require.NoError(t, cell.Close(t.Context()))
	}
	return left
}

// sealed waits until the last entry of every log is sealed.
func (s *stack) sealed(t testing.TB, some []*tenant) {
	t.Helper()
	require.Eventually(t, func() bool { return s.unsealed(t, some) == 0 }, 10*time.Minute, 100*time.Millisecond)
}

// sealLag is the longest of some waits from a request to its entry's seal, over the
// time in which every log is looked at once.
func (s *stack) sealLag(t testing.TB, c *caller, n *tenant) (longest time.Duration) {
	t.Helper()
	for begun := time.Now(); time.Since(begun) < 65*time.Second; {
		require.NoError(t, c.read(t.Context(), n))
		sent := time.Now()
		require.Eventually(t, func() bool { return s.unsealed(t, []*tenant{n}) == 0 }, 5*time.Minute, 20*time.Millisecond)
		longest = max(longest, time.Since(sent))
	}
	return longest
}

// rest looks at what everything uses while nobody asks for anything.
func (s *stack) rest(t testing.TB, f *figures, d time.Duration) {
	t.Helper()
	before := s.usage(t)
	begun := time.Now()
	<-time.After(d) // there is nothing to wait for: this is what is measured
	after := s.usage(t)
	took := time.Since(begun)
	f.Idle, f.Memory, f.Backends = map[string]float64{}, after.memory, after.backends
	for program, cpu := range after.cpu {
		f.Idle[program] = float64((cpu-before.cpu[program])*1000/took) / 1000
	}
}

func (s *stack) disk(t testing.TB, f *figures) {
	t.Helper()
	cell := s.superuser(t, devstack.CellDatabase)
	require.NoError(t, cell.QueryRow(t.Context(), `SELECT pg_database_size(current_database()), (SELECT count(*) FROM pg_class)`).Scan(&f.Cell, &f.Relations))
	f.Objects, f.Keys = onDisk(s.Layout().Path("blobs")), onDisk(s.Layout().Path("keyring"))
}

// table suspends a tenant and waits until it is not served any more.
func (s *stack) table(t testing.TB, f *figures, n *tenant, c *caller) {
	t.Helper()
	require.NoError(t, c.read(t.Context(), n))
	begun := time.Now()
	require.NoError(t, s.operator.Do(t.Context(), client.Request{Method: http.MethodPost, Path: "/api/v1/organizations/" + n.id.String() + "/suspend", Body: map[string]string{"reason": "measured"}}, nil))
	require.Eventually(t, func() bool { return c.read(t.Context(), n) != nil }, time.Minute, 10*time.Millisecond)
	f.Published = time.Since(begun)
	content, err := os.ReadFile(s.Layout().Path("router", routes.FileName))
	if err == nil {
		f.Table = len(content)
	}
	require.NoError(t, s.operator.Do(t.Context(), client.Request{Method: http.MethodPost, Path: "/api/v1/organizations/" + n.id.String() + "/resume", Body: map[string]string{"reason": "measured"}}, nil))
	require.Eventually(t, func() bool { return c.read(t.Context(), n) == nil }, time.Minute, 50*time.Millisecond)
}

// fanout migrates all tenants, with nothing to do and with one column to add.
func (s *stack) fanout(t testing.TB, f *figures, all []*tenant) {
	t.Helper()
	control, err := pg.Open(t.Context(), s.DSN("provisioner"), pg.Options{})
	require.NoError(t, err)
	defer control.Close()
	owner, err := pg.OpenMigrator(t.Context(), s.DSN("cell_owner"), provisioning.MigrationsAtOnce)
	require.NoError(t, err)
	defer owner.Close()
	s.unmeasure(t)
	fan := provisioning.Fanout{Control: control, Cell: owner, CellID: "main"}
	begun := time.Now()
	require.NoError(t, fan.MigrateTenants(t.Context(), nil))
	f.Unchanged = time.Since(begun)
	set := fstest.MapFS{}
	require.NoError(t, fs.WalkDir(migrations.Tenant, ".", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		data, err := fs.ReadFile(migrations.Tenant, path)
		set[path] = &fstest.MapFile{Data: data}
		return err
	}))
	set["tenant/9000_measured.sql"] = &fstest.MapFile{Data: []byte("-- +goose Up\nALTER TABLE facility ADD COLUMN measured text;\n")}
	fan.Migrations = set
	begun = time.Now()
	require.NoError(t, fan.MigrateTenants(t.Context(), nil))
	f.Migrated = time.Since(begun)
	var measured int
	require.NoError(t, s.superuser(t, devstack.CellDatabase).QueryRow(t.Context(), `SELECT count(*) FROM pg_attribute WHERE attname = 'measured' AND NOT attisdropped`).Scan(&measured))
	require.GreaterOrEqual(t, measured, len(all))
	s.unmeasure(t)
}

// unmeasure makes all schemas as they were, also after a run that was stopped: nobody but
// this test knows of that version.
func (s *stack) unmeasure(t testing.TB) {
	t.Helper()
	cell := s.superuser(t, devstack.CellDatabase)
	rows, err := cell.Query(t.Context(), `SELECT nspname FROM pg_namespace AS n JOIN pg_class AS c ON c.relnamespace = n.oid AND c.relname = 'facility'
		JOIN pg_attribute AS a ON a.attrelid = c.oid AND a.attname = 'measured' AND NOT a.attisdropped`)
	require.NoError(t, err)
	schemas, err := pgx.CollectRows(rows, pgx.RowTo[string])
	require.NoError(t, err)
	for part := range slices.Chunk(schemas, 500) {
		for _, schema := range part {
			_, err := cell.Exec(t.Context(), `ALTER TABLE `+schema+`.facility DROP COLUMN measured; DELETE FROM `+schema+`.schema_version WHERE version_id = 9000`)
			require.NoError(t, err)
		}
		require.NoError(t, cell.Close(t.Context()))
		cell = s.superuser(t, devstack.CellDatabase)
	}
}

// proof has all tenants proven.
func (s *stack) proof(t testing.TB, f *figures) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Hour)
	defer cancel()
	begun := time.Now()
	file, err := s.operator.ProveIsolation(ctx, "", "main")
	require.NoError(t, err)
	f.Proof = time.Since(begun)
	public, err := os.ReadFile(s.Layout().Path("keys", "isolation.pub"))
	require.NoError(t, err)
	key, err := isolation.ParseKey(string(public))
	require.NoError(t, err)
	r, err := isolation.Verify(file, key)
	require.NoError(t, err)
	for _, one := range r.Tenants {
		require.Equal(t, isolation.Proven, one.Verdict, "%v %v", one.Findings, one.Unproven)
	}
	require.GreaterOrEqual(t, len(r.Tenants), f.Tenants)
}

func sizes(t testing.TB) (all []int) {
	t.Helper()
	given := os.Getenv(sizesEnv)
	if given == "" {
		given = strconv.Itoa(hot)
	}
	for word := range strings.SplitSeq(given, ",") {
		n, err := strconv.Atoi(word)
		require.NoError(t, err, "%s=%s", sizesEnv, given)
		require.GreaterOrEqual(t, n, hot)
		all = append(all, n)
	}
	return all
}

// keep writes the figures so far.
func keep(t testing.TB, measured []figures) {
	t.Helper()
	content, err := json.MarshalIndent(measured, "", "  ")
	require.NoError(t, err)
	if file := os.Getenv(fileEnv); file != "" {
		require.NoError(t, os.MkdirAll(filepath.Dir(file), 0o750))
		require.NoError(t, os.WriteFile(file, content, 0o600))
	}
	t.Logf("%s", content)
}
