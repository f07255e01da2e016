package egress

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strings"
	"syscall"
	"testing"

	"github.com/fanfare-webhooks/fanfare"
)

const okAnswer = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"

// In these tests 127.0.0.2 plays the public Internet, and a canary listens on 127.0.0.1.
func publicIs2(ns *nameServer) Options {
	return Options{Allow: prefixes("127.0.0.2/32"), AllowHTTP: true, DialNameServer: ns.dial}
}

func canary(t testing.TB) *receiver { return listen(t, "127.0.0.1:0", answering(okAnswer)) }

// besideCanary gives a receiver on 127.0.0.2 and a canary on the same port of 127.0.0.1.
func besideCanary(t testing.TB, serve func(net.Conn)) (good, can *receiver) {
	t.Helper()
	for range 100 { // somebody may have the other's port
		a, err := net.Listen("tcp", "127.0.0.2:0")
		if err != nil {
			t.Fatal(err)
		}
		_, p, _ := net.SplitHostPort(a.Addr().String())
		if b, err := net.Listen("tcp", "127.0.0.1:"+p); err == nil {
			return serveOn(t, a, serve), serveOn(t, b, answering(okAnswer))
		}
		a.Close()
	}
	t.Fatal("no port is free on both addresses")
	return nil, nil
}

func TestHostileURLsReachNoCanary(t *testing.T) {
	can := canary(t)
	ns := newNameServer(t)
	c := newClient(t, Options{AllowHTTP: true, DenyPorts: []uint16{9999}, DialNameServer: ns.dial})
	for _, raw := range hostileURLs() {
		if raw == "HTTP://example.com/" {
			continue
		}
		for _, raw := range []string{raw, strings.Replace(raw, "127.0.0.1", can.addr, 1)} {
			if res := post(c, raw, enough); res.Error != fanfare.ErrBlocked && res.Error != fanfare.ErrRequest {
				t.Errorf("%q: %+v", raw, res)
			}
		}
	}
	if n := can.accepted.Load(); n != 0 {
		t.Errorf("the canary saw %d connections", n)
	}
	if asked := ns.asked(); len(asked) > 0 {
		t.Errorf("names were looked up: %v", asked)
	}

	// The guard off: the canary is alive.
	if res := post(devClient(t), "http://"+can.addr, enough); res.Error != "" || can.accepted.Load() != 1 {
		t.Errorf("the canary does not work: %+v", res)
	}
}

func TestTheDialDecidesEvenIfEverythingBeforeItLetsAnAddressPass(t *testing.T) {
	can := canary(t)
	_, p, _ := net.SplitHostPort(can.addr)
	ns := newNameServer(t)
	ns.set("internal.test", "127.0.0.1")
	c := newClient(t, Options{AllowHTTP: true, DialNameServer: ns.dial})
	for _, host := range []string{
		"127.0.0.1", "0.0.0.0", "::1", "::", "::ffff:127.0.0.1", "::ffff:0.0.0.0", "::1%lo", "fe80::1%lo", "internal.test",
		"localhost", "169.254.169.254", "10.0.0.1", "64:ff9b::7f00:1", "2002:7f00:1::1", "::127.0.0.1",
	} {
		for _, secure := range []bool{false, true} {
			conn, err := c.connect(t.Context(), &target{secure: secure, addr: net.JoinHostPort(host, p)})
			var f *failure
			if conn != nil || !errors.As(err, &f) || f.code != fanfare.ErrBlocked {
				t.Errorf("%s, TLS %v: %v, %v", host, secure, conn, err)
			}
		}
	}
	if n := can.accepted.Load(); n != 0 {
		t.Errorf("the canary saw %d connections", n)
	}
}

func TestNamesThatLeadInsideAreBlocked(t *testing.T) {
	can := canary(t)
	many := make([]string, 500)
	for i := range many {
		many[i] = fmt.Sprintf("10.0.%d.%d", i/250, i%250+1)
	}
	many[499] = "127.0.0.1"
	ns := newNameServer(t)
	ns.set("a.test", "127.0.0.1")
	ns.set("aaaa.test", "::1")
	ns.set("mapped.test", "::ffff:127.0.0.1")
	ns.set("nat64.test", "64:ff9b::7f00:1")
	ns.set("all.test", "127.0.0.1", "10.0.0.1", "::1", "169.254.169.254")
	ns.set("many.test", many...)
	ns.set("zero.test", "0.0.0.0", "::")
	ns.setAnswer("cname.test", answer{cname: "db.corp.test", addrs: []netip.Addr{netip.MustParseAddr("127.0.0.1")}})
	c := newClient(t, publicIs2(ns))
	for name := range ns.zone {
		res := post(c, "http://"+name+":"+port(can), enough)
		if res.Error != fanfare.ErrBlocked || res.OwnFault {
			t.Errorf("%s: %+v", name, res)
		}
		if strings.Contains(res.Detail, "127.0") || strings.Contains(res.Detail, "::") {
			t.Errorf("%s: the detail tells the address: %q", name, res.Detail)
		}
	}
	if n := can.accepted.Load(); n != 0 {
		t.Errorf("the canary saw %d connections", n)
	}

	open := newClient(t, Options{AllowHTTP: true, AllowLoopback: true, DialNameServer: ns.dial})
	for _, name := range []string{"a.test", "mapped.test", "cname.test", "all.test"} {
		if res := post(open, "http://"+name+":"+port(can), enough); res.Error != "" {
			t.Errorf("guard off: %s: %+v", name, res)
		}
	}
	if n := can.accepted.Load(); n != 4 {
		t.Errorf("guard off: the canary saw %d connections", n)
	}
}

func TestOfMixedAddressesOnlyTheAllowedIsDialled(t *testing.T) {
	good, can := besideCanary(t, answering(okAnswer))
	ns := newNameServer(t)
	ns.set("mixed.test", "127.0.0.1", "127.0.0.2")
	ns.set("mixed2.test", "127.0.0.2", "127.0.0.1")
	c := newClient(t, publicIs2(ns))
	for _, name := range []string{"mixed.test", "mixed2.test"} {
		if res := post(c, "http://"+name+":"+port(good), enough); res.Error != "" {
			t.Errorf("%s: %+v", name, res)
		}
	}
	if good.accepted.Load() != 2 || can.accepted.Load() != 0 {
		t.Errorf("the receiver saw %d, the canary %d connections", good.accepted.Load(), can.accepted.Load())
	}
}

func TestAnAllowedAddressThatRefusesIsAConnectErrorWhateverElseTheNameHas(t *testing.T) {
	ns := newNameServer(t)
	ns.set("half.test", "127.0.0.1", "127.0.0.2")
	closed, err := net.Listen("tcp", "127.0.0.2:0")
	if err != nil {
		t.Fatal(err)
	}
	_, p, _ := net.SplitHostPort(closed.Addr().String())
	closed.Close()
	res := post(newClient(t, publicIs2(ns)), "http://half.test:"+p, enough)
	if res.Error != fanfare.ErrConnect {
		t.Fatalf("%+v", res)
	}
	if strings.Contains(res.Detail, "127.0") {
		t.Errorf("the detail tells the address: %q", res.Detail)
	}
}

func TestRebindingGainsNothing(t *testing.T) {
	good, can := besideCanary(t, answering(okAnswer, "close"))
	ns := newNameServer(t)
	inside := answer{addrs: []netip.Addr{netip.MustParseAddr("127.0.0.1")}}
	ns.setAnswer("rebind.test", answer{addrs: []netip.Addr{netip.MustParseAddr("127.0.0.2")}, then: &inside})
	c := newClient(t, publicIs2(ns))
	url := "http://rebind.test:" + port(good)

	if faults := c.CheckURL(url); len(faults) > 0 {
		t.Fatal(faults)
	}
	if res := post(c, url, enough); res.Error != "" {
		t.Errorf("the first send: %+v", res)
	}
	c.Close() // no kept connection is left
	if res := post(c, url, enough); res.Error != fanfare.ErrBlocked {
		t.Errorf("the second send: %+v", res)
	}
	if good.accepted.Load() != 1 || can.accepted.Load() != 0 {
		t.Errorf("the receiver saw %d, the canary %d connections", good.accepted.Load(), can.accepted.Load())
	}
}

func TestAtMostEightAddressesOfANameAreDialled(t *testing.T) {
	good := listen(t, "127.0.1.200:0", answering(okAnswer))
	var addrs []string
	for i := range 20 {
		addrs = append(addrs, fmt.Sprintf("127.0.1.%d", i+1))
	}
	ns := newNameServer(t)
	ns.set("eight.test", append(addrs[:maxAddresses-1:maxAddresses-1], "127.0.1.200")...)
	ns.set("nine.test", append(addrs[:maxAddresses:maxAddresses], "127.0.1.200")...)
	c := newClient(t, Options{Allow: prefixes("127.0.1.0/24"), AllowHTTP: true, DialNameServer: ns.dial})
	// The name server's order is the dial's: all addresses are equally near.
	if res := post(c, "http://eight.test:"+port(good), enough); res.Error != "" {
		t.Errorf("eight: %+v", res)
	}
	if res := post(c, "http://nine.test:"+port(good), enough); res.Error != fanfare.ErrConnect {
		t.Errorf("nine: %+v", res)
	}
}

func TestADeniedPortIsNeverDialled(t *testing.T) {
	can := canary(t)
	ap := netip.MustParseAddrPort(can.addr)
	c := newClient(t, Options{AllowLoopback: true, DenyPorts: []uint16{ap.Port()}})
	if res := post(c, "http://"+can.addr, enough); res.Error != fanfare.ErrBlocked {
		t.Errorf("%+v", res)
	}
	if _, err := c.connect(t.Context(), &target{addr: can.addr}); err == nil || can.accepted.Load() != 0 {
		t.Errorf("the dial let it pass: %v", err)
	}
}

func TestHTTPInDevelopmentReachesLoopbackOnly(t *testing.T) {
	good := listen(t, "127.0.0.1:0", answering(okAnswer))
	ns := newNameServer(t)
	c := newClient(t, Options{Allow: prefixes("192.0.2.0/24"), AllowLoopback: true, DialNameServer: ns.dial})
	if _, err := c.connect(t.Context(), &target{addr: "192.0.2.1:80"}); !errors.As(err, new(*failure)) || !strings.Contains(err.Error(), "blocked") {
		t.Errorf("http to another address: %v", err)
	}
	if res := post(c, "http://"+good.addr, enough); res.Error != "" {
		t.Errorf("%+v", res)
	}
	if res := post(c, "http://localhost:"+port(good), enough); res.Error != "" {
		t.Errorf("localhost: %+v", res)
	}
}

func TestNameResolution(t *testing.T) {
	const url = "http://hook.test/"
	t.Run("a name that does not exist is the receiver's fault", func(t *testing.T) {
		ns := newNameServer(t)
		res := post(newClient(t, publicIs2(ns)), url, enough)
		if res.Error != fanfare.ErrDNS || res.OwnFault || !strings.Contains(res.Detail, "hook.test") {
			t.Errorf("%+v", res)
		}
	})
	t.Run("so is one without an address", func(t *testing.T) {
		ns := newNameServer(t)
		ns.set("hook.test")
		if res := post(newClient(t, publicIs2(ns)), url, enough); res.Error != fanfare.ErrDNS {
			t.Errorf("%+v", res)
		}
	})
	t.Run("a resolver that helps nobody is our own", func(t *testing.T) {
		ns := newNameServer(t)
		ns.setAnswer("hook.test", answer{rcode: rcodeServFail})
		res := post(newClient(t, publicIs2(ns)), url, enough)
		if res.Error != fanfare.ErrOwn || !res.OwnFault {
			t.Errorf("%+v", res)
		}
	})
	t.Run("a name that fails while others resolve is the receiver's", func(t *testing.T) {
		ns := newNameServer(t)
		ns.setAnswer("hook.test", answer{rcode: rcodeServFail})
		c := newClient(t, publicIs2(ns))
		post(c, "http://other.test/", enough)
		if res := post(c, url, enough); res.Error != fanfare.ErrDNS || res.OwnFault {
			t.Errorf("%+v", res)
		}
	})
	t.Run("a resolver out of reach is our own", func(t *testing.T) {
		ns := newNameServer(t)
		ns.fail(false, &net.OpError{Op: "dial", Net: "udp", Err: os.NewSyscallError("connect", syscall.ENETUNREACH)})
		if res := post(newClient(t, publicIs2(ns)), url, enough); res.Error != fanfare.ErrOwn {
			t.Errorf("%+v", res)
		}
	})
	t.Run("want of descriptors is our own, even if names resolved a moment ago", func(t *testing.T) {
		ns := newNameServer(t)
		c := newClient(t, publicIs2(ns))
		post(c, "http://other.test/", enough)
		ns.fail(false, &net.OpError{Op: "dial", Net: "udp", Err: os.NewSyscallError("socket", syscall.EMFILE)})
		if res := post(c, url, enough); res.Error != fanfare.ErrOwn {
			t.Errorf("%+v", res)
		}
	})
	t.Run("a resolver that is silent to the deadline is our own", func(t *testing.T) {
		ns := newNameServer(t)
		ns.fail(true, nil)
		c := newClient(t, publicIs2(ns))
		if res := post(c, url, short); res.Error != fanfare.ErrOwn {
			t.Errorf("%+v", res)
		}
		c.resolverAnswered.Store(1 << 62)
		if res := post(c, url, short); res.Error != fanfare.ErrTimeout {
			t.Errorf("one that answered others: %+v", res)
		}
	})
}

func TestTheSearchListIsForNamesOfOneLabel(t *testing.T) {
	for name, want := range map[string]string{"hook.test": "hook.test.", "postgres": "postgres", "localhost": "localhost"} {
		if got := lookupName(name); got != want {
			t.Errorf("%s is looked up as %q, want %q", name, got, want)
		}
	}
}

func TestWantOfLocalSocketsIsOurOwnFault(t *testing.T) {
	for _, errno := range []syscall.Errno{syscall.EMFILE, syscall.ENFILE, syscall.EADDRNOTAVAIL, syscall.ENOBUFS} {
		f := connectFault(&net.OpError{Op: "dial", Net: "tcp", Addr: &net.TCPAddr{IP: net.IPv4(10, 0, 0, 7)}, Err: os.NewSyscallError("socket", errno)})
		if !f.own || f.code != fanfare.ErrOwn || strings.Contains(f.detail, "10.0.0.7") {
			t.Errorf("%v: %+v", errno, f)
		}
	}
}
