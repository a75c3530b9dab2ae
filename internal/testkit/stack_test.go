package testkit_test

import (
	"crypto/tls"
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/caresphere/caresphere/internal/devstack"
	"github.com/caresphere/caresphere/internal/testkit"
)

func TestStackRunsAndItsProgramsComeBack(t *testing.T) {
	s := testkit.Stack(t, testkit.Named("testkit"))
	require.NotEmpty(t, s.Operator().TOTPSecret)
	client := &http.Client{Timeout: 5 * time.Second, Transport: &http.Transport{
		DisableKeepAlives: true,
		TLSClientConfig:   &tls.Config{RootCAs: s.Roots(t), MinVersion: tls.VersionTLS12},
	}}
	ready := func() bool {
		res, err := client.Get(s.Origin() + "/readyz")
		if err != nil {
			return false
		}
		return res.Body.Close() == nil && res.StatusCode == http.StatusOK
	}
	require.True(t, ready())
	got, err := query(t, s.Superuser(devstack.ControlDatabase), "SELECT id FROM cell")
	require.NoError(t, err)
	require.Equal(t, devstack.CellID, got)
	_, err = query(t, s.DSN("controlplane"), "SELECT count(*)::text FROM organization")
	require.NoError(t, err)

	before := s.PID(t, devstack.Router)
	s.Kill(t, devstack.Router)
	require.Eventually(t, func() bool { return s.PID(t, devstack.Router) != before && ready() }, 20*time.Second, 50*time.Millisecond)

	s.StopProgram(t, devstack.Router)
	require.False(t, ready())
	s.StartProgram(t, devstack.Router)
	require.Eventually(t, ready, 20*time.Second, 50*time.Millisecond)
	require.Contains(t, s.Log(t, devstack.Router), "starting")

	require.NoError(t, testkit.EndStacks())
	require.False(t, ready())
	s = testkit.Stack(t, testkit.Named("testkit"))
	require.True(t, ready(), "who asks later has it started anew")
}
