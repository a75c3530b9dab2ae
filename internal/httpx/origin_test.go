package httpx

import (
	"net"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestASubscriberIsAnAddressOrANetwork(t *testing.T) {
	for one, c := range map[string]struct {
		other string
		same  bool
	}{
		"192.0.2.1":           {"192.0.2.2", false},
		"192.0.2.7":           {"::ffff:192.0.2.7", true},
		"2001:db8:1:2::1":     {"2001:db8:1:2:ffff::9", true},
		"2001:db8:1:2::2":     {"2001:db8:1:3::2", false},
		"2001:db8:0:0:1::1":   {"2001:db8::1", true},
		"::ffff:198.51.100.1": {"::ffff:198.51.100.2", false},
	} {
		a, b := origin(&net.TCPAddr{IP: net.ParseIP(one)}), origin(&net.TCPAddr{IP: net.ParseIP(c.other)})
		require.True(t, a.IsValid() && b.IsValid())
		require.Equal(t, c.same, a == b, "%s and %s", one, c.other)
	}
	require.False(t, origin(&net.UnixAddr{}).IsValid())
}

// TestPaceGivesNoCredit moves the deadline by what was taken, and not by what was taken
// fast before.
func TestPaceGivesNoCredit(t *testing.T) {
	const rate = 1000
	start := time.Unix(1000, 0)
	at := func(s int) time.Time { return start.Add(time.Duration(s) * time.Second) }
	p := pace{rate: rate, most: time.Minute}
	require.Equal(t, at(60), p.next(1, at(0), at(0)), "the first has the longest pause")
	require.Equal(t, at(60), p.next(1_000_000, at(0), at(0)), "no further ahead than that")
	require.Equal(t, at(62), p.next(2*rate, at(50), at(50)), "two seconds' worth, however long it took")
	require.Equal(t, at(72), p.next(0, at(55), at(65)), "ten seconds that the server took")
	require.Equal(t, at(72), p.next(1, at(71), at(71)).Truncate(time.Second), "a byte is worth a byte")
	require.Equal(t, at(131), p.next(60*rate, at(71), at(71)), "who catches up is as before")
}
