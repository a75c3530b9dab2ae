package tenantdb_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"math/big"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/caresphere/caresphere/internal/kms"
	"github.com/caresphere/caresphere/internal/tenantdb"
	"github.com/caresphere/caresphere/tenants"
)

func newCA(t *testing.T) *tenantdb.CA {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	ca := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "tenants"}, NotBefore: time.Now().Add(-time.Hour),
		NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign}
	der, err := x509.CreateCertificate(rand.Reader, ca, ca, key.Public(), key)
	require.NoError(t, err)
	raw, err := x509.MarshalPKCS8PrivateKey(key)
	require.NoError(t, err)
	out, err := tenantdb.LoadCA(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: raw}))
	require.NoError(t, err)
	return out
}

func TestMintIsTheDocumentedForm(t *testing.T) {
	key := tenantdb.NewContextKey()
	inner, outer := key.Blocks()
	a := tenants.Actor{ID: tenants.NewID(), TenantID: tenants.NewID(), Role: tenants.RoleNurse, SessionID: tenants.NewID(),
		Facilities: []tenants.ID{tenants.NewID(), tenants.NewID()}}
	at := time.UnixMilli(1_700_000_000_123)
	got := tenantdb.Mint(key, 77, tenantdb.KindMember, a, at)
	body := fmt.Sprintf("v1|%s|77|1700000000123|member|%s|nurse|%s|%s,%s", tenants.RoleName(a.TenantID), a.ID, a.SessionID, a.Facilities[0], a.Facilities[1])
	require.Equal(t, body, got[:len(got)-65])
	in := sha256.Sum256(append(inner, body...))
	out := sha256.Sum256(append(outer, in[:]...))
	require.Equal(t, hex.EncodeToString(out[:]), got[len(got)-64:], "what the database computes from the two blocks")
	back, err := tenantdb.ContextKeyFromBlock(inner)
	require.NoError(t, err)
	require.Equal(t, got, tenantdb.Mint(back, 77, tenantdb.KindMember, a, at))
	_, err = tenantdb.ContextKeyFromBlock(inner[:32])
	require.Error(t, err)

	for _, kind := range []tenantdb.Kind{tenantdb.KindLookup, tenantdb.KindSystem} {
		got := tenantdb.Mint(key, 77, kind, a, at)
		require.NotContains(t, got, "nurse", "only a member has a role")
		require.NotContains(t, got, a.Facilities[0].String(), "and facilities")
		require.Contains(t, got, a.ID.String())
	}
	a.Role = "owner|x"
	require.Equal(t, 9, strings.Count(tenantdb.Mint(key, 77, tenantdb.KindMember, a, at), "|"), "a role that is none is left out")
}

func TestReadsAndListsAreSignedInTheirOwnForms(t *testing.T) {
	key := tenantdb.NewContextKey()
	a := tenants.Actor{ID: tenants.NewID(), TenantID: tenants.NewID(), Role: tenants.RoleNurse, SessionID: tenants.NewID(), Facilities: []tenants.ID{tenants.NewID()}}
	at, entry := time.UnixMilli(1_700_000_000_123), tenants.NewID()
	member := tenantdb.Mint(key, 77, tenantdb.KindMember, a, at)
	read := tenantdb.MintRead(key, 77, a, entry, at)
	require.Equal(t, "v2"+member[2:len(member)-65]+"|"+entry.String(), read[:len(read)-65])
	require.NotEqual(t, member[len(member)-64:], read[len(read)-64:])

	digest := sha256.Sum256([]byte("[]"))
	list := tenantdb.MintEntries(key, 77, a.TenantID, "[]", at)
	require.Equal(t, fmt.Sprintf("b1|%s|77|1700000000123|%x", tenants.RoleName(a.TenantID), digest), list[:len(list)-65])
}

func TestContextKeyDoesNotLeak(t *testing.T) {
	key := tenantdb.NewContextKey()
	inner, _ := key.Blocks()
	for i := range inner {
		inner[i] ^= 0x36
	}
	raw := hex.EncodeToString(inner[:32])
	for _, s := range []string{fmt.Sprint(key), fmt.Sprintf("%v %+v %#v %s %x %d", key, key, key, key, key, key)} {
		require.NotContains(t, s, raw)
		require.NotContains(t, s, fmt.Sprint(inner[0])+" "+fmt.Sprint(inner[1]))
	}
	_, err := json.Marshal(map[string]any{"k": key})
	require.Error(t, err)
}

func TestCredentialOpensForItsTenantOnly(t *testing.T) {
	ctx := context.Background()
	keys, err := kms.Open(ctx, kms.Config{URL: "keyring:" + filepath.Join(t.TempDir(), "keys")})
	require.NoError(t, err)
	defer keys.Close()
	ca, tenant, other := newCA(t), tenants.NewID(), tenants.NewID()
	for _, id := range []tenants.ID{tenant, other} {
		require.NoError(t, keys.Ensure(ctx, kms.KeyName(id)))
	}
	now := time.Now()
	cert, err := ca.Issue(tenant, now)
	require.NoError(t, err)
	require.Equal(t, tenants.RoleName(tenant), cert.Leaf.Subject.CommonName)
	require.WithinDuration(t, now.Add(tenantdb.CertificateLife), cert.Leaf.NotAfter, time.Second)
	require.False(t, cert.Leaf.IsCA)
	contextKey := tenantdb.NewContextKey()
	row, err := tenantdb.SealCredential(ctx, keys, tenant, cert, contextKey)
	require.NoError(t, err)

	back, key, err := tenantdb.OpenCredential(ctx, keys, row)
	require.NoError(t, err)
	require.True(t, key == contextKey)
	require.True(t, back.PrivateKey.(*ecdsa.PrivateKey).Equal(cert.PrivateKey))

	for name, change := range map[string]func(*tenantdb.Row){
		"another tenant": func(r *tenantdb.Row) { r.TenantID = other },
		"another role":   func(r *tenantdb.Row) { r.RoleName = tenants.RoleName(other) },
		"another key":    func(r *tenantdb.Row) { r.KeyName = kms.KeyName(other) },
		"all of another": func(r *tenantdb.Row) {
			r.TenantID, r.RoleName, r.KeyName = other, tenants.RoleName(other), kms.KeyName(other)
		},
		"another data key":    func(r *tenantdb.Row) { r.DataKeyID = tenants.NewID() },
		"a changed byte":      func(r *tenantdb.Row) { r.Sealed[len(r.Sealed)/2] ^= 1 },
		"a changed wrap":      func(r *tenantdb.Row) { r.WrappedKey[len(r.WrappedKey)-1] ^= 1 },
		"no sealed bytes":     func(r *tenantdb.Row) { r.Sealed = nil },
		"a certificate apart": func(r *tenantdb.Row) { c, _ := ca.Issue(tenant, now); r.Certificate = c.Certificate[0] },
		"no certificate":      func(r *tenantdb.Row) { r.Certificate = nil },
	} {
		t.Run(name, func(t *testing.T) {
			forged := row
			forged.Sealed = append([]byte(nil), row.Sealed...)
			forged.WrappedKey = append([]byte(nil), row.WrappedKey...)
			change(&forged)
			_, _, err := tenantdb.OpenCredential(ctx, keys, forged)
			require.Error(t, err)
		})
	}
	require.NoError(t, keys.Disable(ctx, row.KeyName))
	_, _, err = tenantdb.OpenCredential(ctx, keys, row)
	require.ErrorIs(t, err, kms.ErrKeyDisabled)

	_, err = tenantdb.SealCredential(ctx, keys, tenants.NilID, cert, contextKey)
	require.Error(t, err)
	_, err = ca.Issue(tenants.NilID, now)
	require.Error(t, err)
	_, err = tenantdb.LoadCA([]byte("x"), []byte("y"))
	require.Error(t, err)
}
