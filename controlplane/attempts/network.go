package attempts

import "net/netip"

// networkBits is the part of an IPv6 address that names a network (RFC 4291, 2.5.1).
// Whoever has a network has every address in it, and would have tries without end if
// each of them counted by itself.
const networkBits = 64

// network returns what tries by address are counted under: an IPv4 address, also one
// that is written as IPv6, and the network of an IPv6 one. What is no address counts
// as it is.
func network(address string) string {
	a, err := netip.ParseAddr(address)
	if err != nil {
		return address
	}
	if a = a.Unmap(); a.Is4() {
		return a.String()
	}
	p, err := a.Prefix(networkBits)
	if err != nil {
		return address
	}
	return p.String()
}
