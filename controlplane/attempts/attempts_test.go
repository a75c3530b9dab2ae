package attempts_test

import (
	"context"
	"crypto/rand"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/caresphere/caresphere/controlplane/attempts"
	"github.com/caresphere/caresphere/internal/pg"
	"github.com/caresphere/caresphere/internal/testkit"
	"github.com/caresphere/caresphere/tenants"
)

var rule = attempts.Rule{Bucket: "test", Limit: 10, Window: 24 * time.Hour}

func open(t *testing.T) (*attempts.Counter, *testkit.DB) {
	t.Helper()
	db := testkit.ControlDB(t)
	pool, err := pg.Open(context.Background(), db.DSN("controlplane"), pg.Options{})
	require.NoError(t, err)
	t.Cleanup(pool.Close)
	c, err := attempts.New(pool, []byte(rand.Text()+rand.Text()))
	require.NoError(t, err)
	return c, db
}

func TestTriesAtTheSameMomentDoNotPassTogether(t *testing.T) {
	c, _ := open(t)
	var passed atomic.Int32
	var wg sync.WaitGroup
	for range 40 {
		wg.Go(func() {
			err := c.Take(context.Background(), rule, "dana")
			if err == nil {
				passed.Add(1)
			} else {
				assert.True(t, tenants.IsKind(err, tenants.KindRateLimited), "%v", err)
			}
		})
	}
	wg.Wait()
	assert.EqualValues(t, rule.Limit, passed.Load())
	require.NoError(t, c.Take(context.Background(), rule, "somebody else"))
	require.NoError(t, c.Take(context.Background(), attempts.Rule{Bucket: "other", Limit: 1, Window: time.Hour}, "dana"), "another bucket")
}

// The addresses of one IPv6 network share their tries, those of two do not; IPv4 is
// counted by address, however it is written.
func TestTriesByAddressAreCountedByNetwork(t *testing.T) {
	c, _ := open(t)
	ctx := context.Background()
	byAddress := attempts.Rule{Bucket: "address", Limit: 1, Window: 24 * time.Hour, Network: true}
	for _, a := range []struct {
		address string
		passes  bool
	}{
		{"2001:db8:1:2::1", true}, {"2001:db8:1:2:ffff:ffff:ffff:ffff", false}, {"2001:0DB8:0001:0002::1", false},
		{"2001:db8:1:3::1", true}, {"fe80::1%eth0", true}, {"fe80::2%eth1", false},
		{"198.51.100.1", true}, {"198.51.100.2", true}, {"::ffff:198.51.100.1", false}, {"::ffff:198.51.100.3", true}, {"198.51.100.3", false},
		{"", true}, {"", false},
	} {
		err := c.Take(ctx, byAddress, a.address)
		assert.Equal(t, a.passes, err == nil, "%q: %v", a.address, err)
	}
	require.NoError(t, c.Clear(ctx, byAddress, "2001:db8:1:2::99"))
	require.NoError(t, c.Take(ctx, byAddress, "2001:db8:1:2::1"))
	byName := byAddress
	byName.Bucket, byName.Network = "name", false
	require.NoError(t, c.Take(ctx, byName, "2001:db8:1:2::1"))
	require.NoError(t, c.Take(ctx, byName, "2001:db8:1:2::2"), "a name is what it is")
}

func TestRefusalSaysWhenToComeAgain(t *testing.T) {
	c, _ := open(t)
	once := attempts.Rule{Bucket: "once", Limit: 1, Window: 24 * time.Hour}
	require.NoError(t, c.Take(context.Background(), once, "dana"))
	var e *tenants.Error
	require.ErrorAs(t, c.Take(context.Background(), once, "dana"), &e)
	assert.Positive(t, e.RetryAfter)
	assert.LessOrEqual(t, e.RetryAfter, 2*once.Window)
	require.NoError(t, c.Clear(context.Background(), once, "dana"))
	require.NoError(t, c.Take(context.Background(), once, "dana"), "after a success")
}

// Around the turn of a fixed window nobody has more tries than in its midst, and the
// time that a refusal names is enough and not more.
func TestTheWindowSlides(t *testing.T) {
	c, _ := open(t)
	ctx := context.Background()
	at := time.Date(2026, 11, 2, 11, 59, 58, 0, time.UTC)
	c.SetClock(func() time.Time { return at })
	r := attempts.Rule{Bucket: "slides", Limit: 10, Window: time.Hour}
	for range r.Limit {
		require.NoError(t, c.Take(ctx, r, "dana"))
	}
	refused := func(who string) time.Duration {
		t.Helper()
		var e *tenants.Error
		require.ErrorAs(t, c.Take(ctx, r, who), &e)
		require.Equal(t, tenants.KindRateLimited, e.Kind)
		return e.RetryAfter
	}
	at = at.Add(4 * time.Second)
	require.NoError(t, c.Take(ctx, r, "somebody else"))
	wait := refused("dana")
	at = at.Add(wait - 2*time.Second)
	wait = refused("dana")
	at = at.Add(wait)
	require.NoError(t, c.Take(ctx, r, "dana"))
	refused("dana")
	at = at.Add(2 * r.Window)
	for range r.Limit {
		require.NoError(t, c.Take(ctx, r, "dana"), "long after")
	}
	at = at.Add(refused("dana") - 2*time.Second)
	at = at.Add(refused("dana"))
	require.NoError(t, c.Take(ctx, r, "dana"))
}

func TestCodeIsFirstOnce(t *testing.T) {
	c, db := open(t)
	ctx := context.Background()
	dana, other := tenants.NewID(), tenants.NewID()
	var first atomic.Int32
	var wg sync.WaitGroup
	for range 20 {
		wg.Go(func() {
			ok, err := c.UseCode(ctx, dana, "123456")
			assert.NoError(t, err)
			if ok {
				first.Add(1)
			}
		})
	}
	wg.Wait()
	assert.EqualValues(t, 1, first.Load())
	for _, twin := range []struct {
		who  tenants.ID
		code string
	}{{other, "123456"}, {dana, "654321"}} {
		ok, err := c.UseCode(ctx, twin.who, twin.code)
		require.NoError(t, err)
		assert.True(t, ok)
	}
	conn, err := pgx.Connect(ctx, db.Superuser(t))
	require.NoError(t, err)
	defer func() { _ = conn.Close(ctx) }()
	var plain int
	require.NoError(t, conn.QueryRow(ctx, "SELECT count(*) FROM totp_used WHERE code_hash::text LIKE '%123456%' OR encode(code_hash, 'escape') LIKE '%123456%'").Scan(&plain))
	assert.Zero(t, plain, "the table names no code")
	_, err = conn.Exec(ctx, "UPDATE totp_used SET used_at = used_at - interval '11 minutes'")
	require.NoError(t, err)
	ok, err := c.UseCode(ctx, dana, "123456")
	require.NoError(t, err)
	assert.True(t, ok, "long after, when the same digits come up by chance")
	require.NoError(t, c.Purge(ctx))
}

func TestWithoutTheDatabaseNothingIsTried(t *testing.T) {
	db := testkit.ControlDB(t)
	pool, err := pg.Open(context.Background(), db.DSN("controlplane"), pg.Options{})
	require.NoError(t, err)
	c, err := attempts.New(pool, []byte(rand.Text()+rand.Text()))
	require.NoError(t, err)
	pool.Close()
	assert.True(t, tenants.IsKind(c.Take(context.Background(), rule, "dana"), tenants.KindUnavailable))
	_, err = c.UseCode(context.Background(), tenants.NewID(), "123456")
	assert.True(t, tenants.IsKind(err, tenants.KindUnavailable))
	_, err = attempts.New(pool, []byte("short"))
	require.Error(t, err)
}

func TestFingerprintsTellAddressesApartAndNameNone(t *testing.T) {
	c, _ := open(t)
	assert.Equal(t, c.Fingerprint("a@example.org"), c.Fingerprint("a@example.org"))
	assert.NotEqual(t, c.Fingerprint("a@example.org"), c.Fingerprint("b@example.org"))
	other, _ := open(t)
	assert.NotEqual(t, c.Fingerprint("a@example.org"), other.Fingerprint("a@example.org"), "keyed")
	assert.Len(t, c.Fingerprint("x"), 16)
}

func TestOnlyLimitsByAddressAreMultiplied(t *testing.T) {
	one, many := attempts.DefaultRules("customer", 1), attempts.DefaultRules("customer", 100)
	assert.Equal(t, one.SignInAccount, many.SignInAccount)
	assert.Equal(t, one.SecondFactor, many.SecondFactor)
	assert.Equal(t, one.RecoveryEmail, many.RecoveryEmail)
	assert.Equal(t, one.VerificationEmail, many.VerificationEmail)
	assert.Equal(t, one.SignUpEmail, many.SignUpEmail)
	for _, r := range [][2]attempts.Rule{{one.SignInIP, many.SignInIP}, {one.RecoveryIP, many.RecoveryIP}, {one.SignUpIP, many.SignUpIP}, {one.FlowInit, many.FlowInit}} {
		assert.Equal(t, 100*r[0].Limit, r[1].Limit)
		assert.True(t, r[1].Network, r[1].Bucket)
	}
	for _, r := range []attempts.Rule{one.SignInAccount, one.SecondFactor, one.RecoveryEmail, one.RecoveryFlow, one.SignUpEmail} {
		assert.False(t, r.Network, r.Bucket)
	}
	assert.NotEqual(t, one.SignInAccount.Bucket, attempts.DefaultRules("operator", 1).SignInAccount.Bucket)
}
