package egress

import (
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"net/netip"
	"strings"
	"sync"
	"testing"
)

// nameServer answers queries from a table, over pipes: no socket is involved.
type nameServer struct {
	mu      sync.Mutex
	zone    map[string]answer // by name, lower case, without the last dot
	queries []string
	dialErr error // the server cannot be reached
	silent  bool  // it takes queries and never answers
	conns   []net.Conn
}

type answer struct {
	cname string
	addrs []netip.Addr
	rcode byte
	then  *answer // what the next query of the same name and type gets
}

const (
	typeA, typeCNAME, typeAAAA = 1, 5, 28
	rcodeServFail, rcodeNX     = 2, 3
)

func newNameServer(t testing.TB) *nameServer {
	s := &nameServer{zone: map[string]answer{}}
	t.Cleanup(func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.dialErr = net.ErrClosed // lookups whose caller has gone are retried for a while
		for _, c := range s.conns {
			c.Close()
		}
	})
	return s
}

func (s *nameServer) set(name string, addrs ...string) {
	var a answer
	for _, t := range addrs {
		a.addrs = append(a.addrs, netip.MustParseAddr(t))
	}
	s.setAnswer(name, a)
}

func (s *nameServer) setAnswer(name string, a answer) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.zone[name] = a
}

func (s *nameServer) asked() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]string(nil), s.queries...)
}

func (s *nameServer) fail(silent bool, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.silent, s.dialErr = silent, err
}

func (s *nameServer) dial(context.Context, string, string) (net.Conn, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.dialErr != nil {
		return nil, s.dialErr
	}
	ours, theirs := net.Pipe()
	s.conns = append(s.conns, theirs)
	go s.serve(theirs)
	return ours, nil
}

// serve speaks DNS over a stream (RFC 1035, section 4.2.2).
func (s *nameServer) serve(c net.Conn) {
	defer c.Close()
	for {
		var size [2]byte
		if _, err := io.ReadFull(c, size[:]); err != nil {
			return
		}
		query := make([]byte, binary.BigEndian.Uint16(size[:]))
		if _, err := io.ReadFull(c, query); err != nil {
			return
		}
		reply := s.reply(query)
		if reply == nil {
			continue
		}
		if _, err := c.Write(append(binary.BigEndian.AppendUint16(nil, uint16(len(reply))), reply...)); err != nil {
			return
		}
	}
}

func (s *nameServer) reply(query []byte) []byte {
	s.mu.Lock()
	defer s.mu.Unlock()
	name, end := "", 12
	for query[end] != 0 {
		n := int(query[end])
		name += "." + string(query[end+1:end+1+n])
		end += 1 + n
	}
	name = strings.ToLower(strings.TrimPrefix(name, "."))
	qtype := binary.BigEndian.Uint16(query[end+1:])
	end += 5
	s.queries = append(s.queries, name)
	if s.silent {
		return nil
	}
	a, ok := s.zone[name]
	if !ok {
		a.rcode = rcodeNX
	}
	if a.then != nil && qtype == typeA {
		s.zone[name] = *a.then
	}
	out := append([]byte(nil), query[:end]...)
	out[2], out[3] = 0x81, 0x80|a.rcode // a recursive answer
	binary.BigEndian.PutUint16(out[10:], 0)
	count := uint16(0)
	record := func(owner []byte, rtype uint16, data []byte) {
		out = append(out, owner...)
		out = binary.BigEndian.AppendUint16(out, rtype)
		out = append(out, 0, 1, 0, 0, 0, 0)
		out = binary.BigEndian.AppendUint16(out, uint16(len(data)))
		out = append(out, data...)
		count++
	}
	owner := []byte{0xc0, 12} // the question's name
	if a.cname != "" {
		target := packName(a.cname)
		record(owner, typeCNAME, target)
		owner = target
	}
	for _, addr := range a.addrs {
		switch {
		case addr.Is4() && qtype == typeA:
			record(owner, typeA, addr.AsSlice())
		case addr.Is6() && qtype == typeAAAA:
			record(owner, typeAAAA, addr.AsSlice())
		}
	}
	binary.BigEndian.PutUint16(out[6:], count)
	return out
}

func packName(name string) (b []byte) {
	for label := range strings.SplitSeq(name, ".") {
		b = append(append(b, byte(len(label))), label...)
	}
	return append(b, 0)
}

func TestTheFakeNameServerIsBelieved(t *testing.T) {
	s := newNameServer(t)
	s.setAnswer("a.test", answer{cname: "b.test", addrs: []netip.Addr{netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("2001:db8::1")}})
	r := &net.Resolver{PreferGo: true, Dial: s.dial}
	got, err := r.LookupNetIP(t.Context(), "ip", "a.test.")
	if err != nil || len(got) != 2 {
		t.Fatalf("%v, %v", got, err)
	}
	_, err = r.LookupNetIP(t.Context(), "ip", "c.test.")
	var dns *net.DNSError
	if !errors.As(err, &dns) || !dns.IsNotFound {
		t.Fatalf("error %v, want NXDOMAIN", err)
	}
}
