package testkit_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"io"
	"net/http"
	"os"
	"testing"
	"time"

	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/credentials"
	"github.com/stretchr/testify/require"

	"github.com/caresphere/caresphere/internal/kms/vault"
	"github.com/caresphere/caresphere/internal/testkit"
)

func transport(t *testing.T) *http.Transport {
	t.Helper()
	return &http.Transport{TLSClientConfig: &tls.Config{RootCAs: testkit.CA(t).Pool(), MinVersion: tls.VersionTLS12}}
}

func TestVaultTakesACell(t *testing.T) {
	v := testkit.Vault(t)
	credentials, err := vault.Setup(t.Context(), v.Admin(t), "testkit")
	require.NoError(t, err)
	require.NotEmpty(t, credentials[vault.RoleWorker].SecretID)
}

func TestOwnVaultSealsAndOpensAgain(t *testing.T) {
	v, _ := testkit.OwnVault(t)
	admin := v.Admin(t)
	require.NoError(t, admin.Sys().SealWithContext(t.Context()))
	_, err := admin.Sys().UnsealWithContext(t.Context(), v.UnsealKey)
	require.NoError(t, err)
	require.Eventually(t, func() bool {
		_, err := admin.Auth().Token().LookupSelfWithContext(context.Background())
		return err == nil
	}, 10*time.Second, 20*time.Millisecond)
}

func TestS3KeepsObjects(t *testing.T) {
	s := testkit.S3(t)
	client, err := minio.New(s.Host, &minio.Options{Creds: credentials.NewStaticV4(s.AccessKey, s.SecretKey, ""), Secure: true, Transport: transport(t)})
	require.NoError(t, err)
	_, err = client.PutObject(t.Context(), s.Bucket, "a/b", bytes.NewReader([]byte("content")), 7, minio.PutObjectOptions{})
	require.NoError(t, err)
	object, err := client.GetObject(t.Context(), s.Bucket, "a/b", minio.GetObjectOptions{})
	require.NoError(t, err)
	content, err := io.ReadAll(object)
	require.NoError(t, err)
	require.Equal(t, "content", string(content))
	stranger, err := minio.New(s.Host, &minio.Options{Creds: credentials.NewStaticV4(s.AccessKey, "wrong", ""), Secure: true, Transport: transport(t)})
	require.NoError(t, err)
	_, err = stranger.StatObject(t.Context(), s.Bucket, "a/b", minio.StatObjectOptions{})
	require.Error(t, err)
}

func TestToxiproxyCutsStripe(t *testing.T) {
	stripe := testkit.StripeMock(t)
	proxy := testkit.Toxiproxy(t, stripe.URL)
	status := func() (int, error) {
		client := &http.Client{Transport: transport(t), Timeout: 2 * time.Second}
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "https://"+proxy.Addr+"/v1/customers", nil)
		require.NoError(t, err)
		req.SetBasicAuth("sk_test_1", "")
		res, err := client.Do(req)
		if err != nil {
			return 0, err
		}
		return res.StatusCode, res.Body.Close()
	}
	for _, fault := range []func(){proxy.Down, proxy.Hang, func() { proxy.CutAfter(10) }, proxy.Reset} {
		fault()
		_, err := status()
		require.Error(t, err)
		proxy.Heal()
		got, err := status()
		require.NoError(t, err)
		require.Equal(t, 200, got)
	}
}

func TestCertificatesAreTrustedByTheirOwnAuthorityAlone(t *testing.T) {
	pair := testkit.CA(t).Issue(t, "router")
	_, err := pair.TLS()
	require.NoError(t, err)
	info, err := os.Stat(pair.Key)
	require.NoError(t, err)
	require.Equal(t, os.FileMode(0o600), info.Mode().Perm())
	require.False(t, testkit.Other(t).Pool().Equal(testkit.CA(t).Pool()))
}
