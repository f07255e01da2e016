package egress

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"code.dny.dev/ssrf"
)

var (
	nat64  = netip.MustParsePrefix("64:ff9b::/96") // RFC 6052
	sixTo4 = netip.MustParsePrefix("2002::/16")    // RFC 3056
	teredo = netip.MustParsePrefix("2001::/32")    // RFC 4380

	v4Loopback = netip.MustParsePrefix("127.0.0.0/8")
	v6Loopback = netip.MustParsePrefix("::1/128")
)

// rule decides which addresses may be dialled.
type rule struct {
	allow, deny []netip.Prefix
	denyPorts   []uint16
	loopback    bool // loopback is open
	public      *ssrf.Guardian
}

func newRule(o *Options) (*rule, error) {
	allow, err1 := plainPrefixes("allow", o.Allow)
	deny, err2 := plainPrefixes("deny", o.Deny)
	if err := errors.Join(err1, err2); err != nil {
		return nil, err
	}
	return &rule{
		allow:     allow,
		deny:      deny,
		denyPorts: slices.Clone(o.DenyPorts),
		loopback:  o.AllowLoopback,
		public:    ssrf.New(ssrf.WithAnyPort(), ssrf.WithAnyNetwork()),
	}, nil
}

// plainPrefixes writes IPv4 prefixes that came as ::ffff:a.b.c.d/n as IPv4: [netip.Prefix.Contains]
// compares within one family, so they would match nothing.
func plainPrefixes(which string, in []netip.Prefix) (out []netip.Prefix, err error) {
	for _, p := range in {
		switch {
		case !p.IsValid():
			err = errors.Join(err, fmt.Errorf("egress: %s holds an invalid prefix", which))
		case p.Addr().Is4In6() && p.Bits() >= 96:
			out = append(out, netip.PrefixFrom(p.Addr().Unmap(), p.Bits()-96))
		default:
			out = append(out, p)
		}
	}
	return out, err
}

// permits reports whether the address may be dialled. Deny wins over allow, allow over the tables of
// special-purpose addresses that IANA keeps. An IPv6 address that stands for an IPv4 address is open
// only if that one is, too.
func (r *rule) permits(a netip.Addr) bool {
	if !a.IsValid() || a.Zone() != "" {
		return false
	}
	a = a.Unmap()
	if contains(r.deny, a) {
		return false
	}
	if v4, ok := embedded(a); ok && !r.permits(v4) {
		return false
	}
	if contains(r.allow, a) || r.loopback && a.IsLoopback() {
		return true
	}
	// The tables say all of it; the standard library's own view of an address is a second opinion.
	return a.IsGlobalUnicast() && !a.IsPrivate() && r.public.SafeAddr(a) == nil
}

// opensLocal reports whether anything beside the public Internet and loopback is open, so that names
// of a local network may mean something.
func (r *rule) opensLocal() bool {
	for _, p := range r.allow {
		if !v4Loopback.Overlaps(p) && !v6Loopback.Overlaps(p) || p.Bits() < v4Loopback.Bits() {
			return true
		}
	}
	return false
}

// opensLoopback reports whether localhost may mean something.
func (r *rule) opensLoopback() bool {
	return r.loopback || slices.ContainsFunc(r.allow, func(p netip.Prefix) bool {
		return v4Loopback.Overlaps(p) || v6Loopback.Overlaps(p)
	})
}

// embedded is the IPv4 address that an IPv6 address leads to through NAT64, 6to4 or Teredo.
func embedded(a netip.Addr) (netip.Addr, bool) {
	if !a.Is6() {
		return netip.Addr{}, false
	}
	b := a.As16()
	switch {
	case nat64.Contains(a):
		return netip.AddrFrom4([4]byte(b[12:])), true
	case sixTo4.Contains(a):
		return netip.AddrFrom4([4]byte(b[2:6])), true
	case teredo.Contains(a): // the client's address, inverted
		return netip.AddrFrom4([4]byte{^b[12], ^b[13], ^b[14], ^b[15]}), true
	}
	return netip.Addr{}, false
}

func contains(ps []netip.Prefix, a netip.Addr) bool {
	return slices.ContainsFunc(ps, func(p netip.Prefix) bool { return p.Contains(a) })
}

func (r *rule) permitsPort(port uint16) bool {
	return port != 0 && !slices.Contains(r.denyPorts, port)
}
