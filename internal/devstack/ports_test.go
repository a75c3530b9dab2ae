package devstack

import (
	"net"
	"os"
	"strconv"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestATakenPortIsNamedWithItsHolder(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	port := l.Addr().(*net.TCPAddr).Port

	err = CheckPort("the public origin", port)
	var taken *PortTaken
	require.ErrorAs(t, err, &taken)
	require.Equal(t, port, taken.Port)
	require.ErrorContains(t, err, strconv.Itoa(port))
	require.ErrorContains(t, err, "the public origin")
	require.ErrorContains(t, err, "CARESPHERE_PORT_BASE")
	if _, err := os.Stat("/proc/self/fd"); err == nil {
		require.Contains(t, taken.Holder, strconv.Itoa(os.Getpid()))
	}
	require.NoError(t, l.Close())
	require.NoError(t, CheckPort("the public origin", port))
}

func TestAPortHeldOnAllAddressesIsTaken(t *testing.T) {
	l, err := net.Listen("tcp", ":0")
	require.NoError(t, err)
	defer func() { _ = l.Close() }()
	require.Error(t, CheckPort("x", l.Addr().(*net.TCPAddr).Port))
}

func TestLeasesDoNotOverlap(t *testing.T) {
	one, releaseOne, err := LeasePorts()
	require.NoError(t, err)
	defer releaseOne()
	two, releaseTwo, err := LeasePorts()
	require.NoError(t, err)
	defer releaseTwo()
	require.GreaterOrEqual(t, max(one, two)-min(one, two), PortBlock)
}

func TestEveryPortOfAStackIsNamedAndFitsALease(t *testing.T) {
	require.LessOrEqual(t, int(portCount), PortBlock)
	seen := map[string]bool{}
	for _, p := range Ports(true) {
		require.NotEmpty(t, p.String(), "port %d", p)
		require.False(t, seen[p.String()], "%s twice", p)
		seen[p.String()] = true
	}
	require.Len(t, Ports(true), int(portCount))
	require.NotContains(t, Ports(false), PortVault)
}
