package egress

import (
	"encoding/binary"
	"net/netip"
	"testing"

	"pgregory.net/rapid"
)

func mustRule(t testing.TB, o Options) *rule {
	t.Helper()
	r, err := newRule(&o)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func prefixes(ss ...string) (out []netip.Prefix) {
	for _, s := range ss {
		out = append(out, netip.MustParsePrefix(s))
	}
	return out
}

// special4 is IANA's IPv4 Special-Purpose Address Registry, with multicast.
var special4 = []string{
	"0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12",
	"192.0.0.0/24", "192.0.2.0/24", "192.31.196.0/24", "192.52.193.0/24", "192.88.99.0/24",
	"192.168.0.0/16", "192.175.48.0/24", "198.18.0.0/15", "198.51.100.0/24", "203.0.113.0/24",
	"224.0.0.0/4", "240.0.0.0/4",
}

// special6 is IANA's IPv6 Special-Purpose Address Registry within 2000::/3.
var special6 = []string{"2001::/23", "2001:db8::/32", "2002::/16", "2620:4f:8000::/48", "3fff::/20"}

func TestTheRuleClosesSpecialPurposeRangesToTheirEdges(t *testing.T) {
	r := mustRule(t, Options{})
	special := append(prefixes(special4...), prefixes(special6...)...)
	inSpecial := func(a netip.Addr) bool {
		if a.Is6() && !netip.MustParsePrefix("2000::/3").Contains(a) {
			return true
		}
		return contains(special, a)
	}
	for _, p := range append(special, prefixes("2000::/3")...) {
		for _, a := range []netip.Addr{p.Addr().Prev(), p.Addr(), p.Addr().Next(), last(p).Prev(), last(p), last(p).Next()} {
			if a.IsValid() && r.permits(a) == inSpecial(a) {
				t.Errorf("%s at the edge of %s: permitted %v", a, p, r.permits(a))
			}
		}
	}
	rapid.Check(t, func(t *rapid.T) {
		var a netip.Addr
		if rapid.Bool().Draw(t, "v4") {
			a = netip.AddrFrom4([4]byte(rapid.SliceOfN(rapid.Byte(), 4, 4).Draw(t, "bytes")))
		} else {
			a = netip.AddrFrom16([16]byte(rapid.SliceOfN(rapid.Byte(), 16, 16).Draw(t, "bytes"))).Unmap()
		}
		if r.permits(a) == inSpecial(a) {
			t.Fatalf("%s: permitted %v", a, r.permits(a))
		}
	})
}

// last is the highest address of p.
func last(p netip.Prefix) netip.Addr {
	b := p.Masked().Addr().AsSlice()
	for bit := p.Bits(); bit < len(b)*8; bit++ {
		b[bit/8] |= 0x80 >> (bit % 8)
	}
	a, _ := netip.AddrFromSlice(b)
	return a
}

func TestEachSpellingOfAnIPv4AddressInIPv6IsJudgedAsThatAddress(t *testing.T) {
	// With every carrier open, what is carried still decides.
	open := mustRule(t, Options{
		Allow: prefixes("64:ff9b::/96", "2002::/16", "2001::/32", "10.1.0.0/16"),
		Deny:  prefixes("8.8.0.0/16"),
	})
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.OneOf(
			rapid.Uint32(),
			rapid.SampledFrom([]uint32{0x7f000001, 0xa9fea9fe, 0x0a010203, 0x0a020304, 0x08080808, 0x5db8d822}),
		).Draw(t, "v4")
		var b [4]byte
		binary.BigEndian.PutUint32(b[:], n)
		v4 := netip.AddrFrom4(b)
		want := open.permits(v4)
		carriers := map[string]netip.Addr{
			"mapped": netip.AddrFrom16(v4.As16()),
			"nat64":  netip.AddrFrom16([16]byte{0, 0x64, 0xff, 0x9b, 12: b[0], b[1], b[2], b[3]}),
			"6to4":   netip.AddrFrom16([16]byte{0x20, 0x02, b[0], b[1], b[2], b[3], 15: 1}),
			"teredo": netip.AddrFrom16([16]byte{0x20, 0x01, 12: ^b[0], ^b[1], ^b[2], ^b[3]}),
		}
		for name, a := range carriers {
			if open.permits(a) != want {
				t.Fatalf("%s %s (%s): permitted %v, want %v", name, a, v4, !want, want)
			}
		}
	})
	closed := mustRule(t, Options{})
	for _, s := range []string{"64:ff9b::5db8:d822", "2002:5db8:d822::1", "2001:0:4136:e378:8000:63bf:a247:27dd"} {
		if closed.permits(netip.MustParseAddr(s)) {
			t.Errorf("%s is permitted though its carrier is not open", s)
		}
	}
}

func TestDenyWinsOverAllowAndAllowOverTheTables(t *testing.T) {
	r := mustRule(t, Options{
		Allow:         prefixes("10.0.0.0/8", "fd00::/8", "::ffff:172.16.0.0/108"),
		Deny:          prefixes("10.9.0.0/16", "::ffff:93.184.0.0/112", "2606:4700::/32", "127.0.0.9/32"),
		AllowLoopback: true,
	})
	for s, want := range map[string]bool{
		"10.1.2.3": true, "10.9.1.1": false, "::ffff:10.9.1.1": false, "fd00::1": true, "fe80::1": false,
		"172.16.5.5": true, "172.32.0.1": true, "192.168.0.1": false,
		"93.184.216.34": false, "93.185.0.1": true, "2606:4700::1": false, "2606:4701::1": true,
		"127.0.0.1": true, "::1": true, "127.0.0.9": false, "::ffff:127.0.0.9": false,
	} {
		if got := r.permits(netip.MustParseAddr(s)); got != want {
			t.Errorf("%s: permitted %v, want %v", s, got, want)
		}
	}
}

func TestAZoneIsNeverPermitted(t *testing.T) {
	r := mustRule(t, Options{Allow: prefixes("::/0"), AllowLoopback: true})
	for _, s := range []string{"fe80::1%lo", "::1%lo", "2606:4700::1%eth0"} {
		if r.permits(netip.MustParseAddr(s)) {
			t.Errorf("%s is permitted", s)
		}
	}
	if r.permits(netip.Addr{}) {
		t.Error("no address is permitted")
	}
}
