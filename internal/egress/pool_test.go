package egress

import (
	"io"
	"math/rand/v2"
	"net"
	"slices"
	"testing"
	"time"
)

// pipes makes connections of which a test sees whether they are open.
type pipes struct {
	t testing.TB
	l net.Listener
}

func newPipes(t testing.TB) *pipes {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return &pipes{t, l}
}

func (p *pipes) open(origin string) (*conn, net.Conn) {
	tcp, err := net.Dial("tcp", p.l.Addr().String())
	if err != nil {
		p.t.Fatal(err)
	}
	peer, err := p.l.Accept()
	if err != nil {
		p.t.Fatal(err)
	}
	c, err := newConn(tcp, origin)
	if err != nil {
		p.t.Fatal(err)
	}
	p.t.Cleanup(func() { tcp.Close(); peer.Close() })
	return c, peer
}

func isOpen(c *conn) bool { return c.wire.SetDeadline(time.Time{}) == nil }

func TestThePoolGivesWhatWasUsedLast(t *testing.T) {
	ps, p := newPipes(t), newPool(10, 10, time.Hour)
	a1, _ := ps.open("a")
	a2, _ := ps.open("a")
	b, _ := ps.open("b")
	for _, c := range []*conn{a1, b, a2} {
		p.put(c)
	}
	for _, want := range []*conn{a2, a1, nil} {
		if got := p.take("a"); got != want {
			t.Errorf("got %p, want %p", got, want)
		}
	}
	if p.take("c") != nil || p.take("b") != b {
		t.Error("another origin's connection")
	}
}

func TestThePoolIsBounded(t *testing.T) {
	ps, p := newPipes(t), newPool(4, 2, time.Hour)
	defer p.closeAll()
	var cs []*conn
	for _, origin := range []string{"a", "a", "a", "b", "c", "d", "c", "c"} {
		c, _ := ps.open(origin)
		cs = append(cs, c)
		p.put(c)
	}
	// The third of a and of c found no room; d and the second c took that of the two of a.
	for i, want := range []bool{false, false, false, true, true, true, true, false} {
		if isOpen(cs[i]) != want {
			t.Errorf("connection %d is open: %v", i, !want)
		}
	}
	p.drop("c")
	if isOpen(cs[4]) || isOpen(cs[6]) || !isOpen(cs[3]) || p.count != 2 {
		t.Errorf("after a drop %d are left", p.count)
	}
}

func TestThePoolClosesWhatIsIdleForLong(t *testing.T) {
	ps, p := newPipes(t), newPool(10, 10, time.Millisecond)
	for range 3 {
		c, peer := ps.open("a")
		p.put(c)
		peer.SetDeadline(time.Now().Add(enough))
		if _, err := peer.Read(make([]byte, 1)); err != io.EOF { // nothing else is called until it is closed
			t.Fatal(err)
		}
	}
}

// The pool's lists hold together, whatever happens to it.
func TestThePoolAgainstAModel(t *testing.T) {
	ps := newPipes(t)
	origins := []string{"a", "b", "c", "d"}
	var all []*conn
	for i := range 12 {
		c, _ := ps.open(origins[i%len(origins)])
		all = append(all, c)
	}
	p := newPool(6, 2, time.Hour)
	defer p.closeAll()
	var idle []*conn // the model: oldest first
	rnd := rand.New(rand.NewPCG(1, 2))
	of := func(origin string) (cs []*conn) {
		for _, c := range idle {
			if c.origin == origin {
				cs = append(cs, c)
			}
		}
		return cs
	}
	for range 20_000 {
		if c := all[rnd.IntN(len(all))]; rnd.IntN(2) == 0 {
			got, want := p.take(c.origin), of(c.origin)
			if len(want) == 0 {
				if got != nil {
					t.Fatal("a connection out of nothing")
				}
				continue
			}
			if got != want[len(want)-1] {
				t.Fatal("not the newest")
			}
			idle = slices.DeleteFunc(idle, func(c *conn) bool { return c == got })
		} else if !slices.Contains(idle, c) {
			surplus := p.keep(c)
			switch {
			case len(of(c.origin)) == p.maxOrigin:
				if surplus != c {
					t.Fatal("beyond an origin's limit")
				}
				continue
			case len(idle) == p.max:
				if surplus != idle[0] {
					t.Fatal("not the oldest went")
				}
				idle = idle[1:]
			case surplus != nil:
				t.Fatal("one went without need")
			}
			idle = append(idle, c)
		}
		if p.count != len(idle) || len(p.tops) > len(idle) {
			t.Fatalf("%d idle, %d origins; want %d", p.count, len(p.tops), len(idle))
		}
		n := 0
		for c := p.oldest; c != nil; c = c.newer {
			if c != idle[n] {
				t.Fatal("the order is lost")
			}
			n++
		}
		if n != len(idle) {
			t.Fatalf("%d in the list", n)
		}
	}
}
