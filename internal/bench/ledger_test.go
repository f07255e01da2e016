package bench

import (
	"bufio"
	"bytes"
	"io"
	"maps"
	"net"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/fanfare-webhooks/fanfare/signature"
)

// A desk is a ledger of two events and two webhooks, and receivers without sockets.
type desk struct {
	*ledger
	in     *receivers
	secret signature.Secret
}

const (
	deskType    = "invoice.paid"
	deskAccount = "01900000-0000-7000-8000-00000000de30"
)

func newDesk() *desk { return newDeskOf(Config{Webhooks: 2, EventType: deskType}, 2) }

// newDeskOf is a desk of n events for the webhooks of c.
func newDeskOf(c Config, n int) *desk {
	p := c.plan()
	d := &desk{ledger: newLedger(n, p.layouts[0], 100), secret: signature.GenerateSecret(), in: newReceivers(&p)}
	d.in.ledger.Store(d.ledger)
	account := deskAccount
	for i := range d.in.accounts {
		d.in.accounts[i].Store(&account)
	}
	for i := range d.in.secrets {
		d.in.secrets[i].Store(&d.secret)
	}
	return d
}

// one is the layout of one webhook.
var one = newLayout(&Config{Webhooks: 1, EventType: deskType})

func (l *ledger) data(seq int) string { return string(l.appendData(nil, seq)) }

// envelope is what a node sends of an event.
func envelope(id, data string) string {
	return `{"id":"` + id + `","type":"` + deskType + `","timestamp":"2026-11-21T10:00:00.000Z","account_id":"` + deskAccount +
		`","data":` + data + `}`
}

// deliver has the receiver of webhook get an event.
func (d *desk) deliver(webhook, id, data string, secret signature.Secret) {
	d.post(webhook, id, envelope(id, data), secret)
}

// post has the receiver of webhook get a body, signed for that id.
func (d *desk) post(webhook, id, body string, secret signature.Secret) {
	r, err := http.NewRequest(http.MethodPost, "http://receiver/"+webhook, strings.NewReader(body))
	if err != nil {
		panic(err)
	}
	signature.SetHeaders(r.Header, id, time.Now(), []byte(body), secret)
	d.send(r)
}

// send writes a request as net/http does.
func (d *desk) send(r *http.Request) {
	var text bytes.Buffer
	if err := r.Write(&text); err != nil {
		panic(err)
	}
	if status := d.raw(text.String()); status != http.StatusOK {
		panic(status)
	}
}

// raw is the status of the answer to what a connection brings; 0: there was none.
func (d *desk) raw(text string) (status int) {
	c := &textConn{Reader: strings.NewReader(text)}
	d.in.serve(c)
	answer, err := http.ReadResponse(bufio.NewReader(&c.written), nil)
	if err != nil {
		return 0
	}
	answer.Body.Close()
	return answer.StatusCode
}

// textConn is a connection that brings a text, and ends.
type textConn struct {
	net.Conn
	io.Reader
	written bytes.Buffer
}

func (c *textConn) Read(b []byte) (int, error)  { return c.Reader.Read(b) }
func (c *textConn) Write(b []byte) (int, error) { return c.written.Write(b) }
func (c *textConn) Close() error                { return nil }

func TestTheLedgerSeesEveryFault(t *testing.T) {
	// Both events are acknowledged, as a and b, and arrive at both webhooks as they should; then what a
	// case does comes on top, or instead of the delivery of b to webhook 1.
	cases := map[string]struct {
		happens func(*desk)
		instead bool
		want    Checks
	}{
		"nothing": {func(*desk) {}, false, Checks{}},
		"lost":    {func(*desk) {}, true, Checks{Lost: 1}},
		"twice":   {func(d *desk) { d.deliver("0", "a", d.data(0), d.secret) }, false, Checks{Duplicated: 1}},
		"twice at one, never at the other": {
			func(d *desk) { d.deliver("0", "b", d.data(1), d.secret) }, true, Checks{Lost: 1, Duplicated: 1},
		},
		"another id":        {func(d *desk) { d.deliver("1", "x", d.data(1), d.secret) }, true, Checks{Lost: 1, Unexpected: 1}},
		"another's data":    {func(d *desk) { d.deliver("1", "b", d.data(0), d.secret) }, true, Checks{Lost: 1, Unexpected: 1}},
		"changed data":      {func(d *desk) { d.deliver("1", "b", d.data(1)[:50]+" "+d.data(1)[50:], d.secret) }, true, Checks{Lost: 1, Unexpected: 1}},
		"an unknown number": {func(d *desk) { d.deliver("0", "c", d.data(2), d.secret) }, false, Checks{Unexpected: 1}},
		"another run's":     {func(d *desk) { d.deliver("0", "c", newLedger(1, one, 100).data(0), d.secret) }, false, Checks{Unexpected: 1}},
		"an unknown webhook": {
			func(d *desk) { d.deliver("2", "b", d.data(1), d.secret) }, false, Checks{Unexpected: 1},
		},
		"no JSON": {func(d *desk) { d.deliver("0", "a", "}", d.secret) }, false, Checks{Unexpected: 1}},
		"a bad signature": {
			func(d *desk) { d.deliver("1", "b", d.data(1), signature.GenerateSecret()) }, true, Checks{BadSignature: 1},
		},
		"no signature": {
			func(d *desk) { d.deliver("1", "b", d.data(1), signature.Secret{}) }, true, Checks{BadSignature: 1},
		},
	}
	for _, name := range slices.Sorted(maps.Keys(cases)) {
		t.Run(name, func(t *testing.T) {
			c, d := cases[name], newDesk()
			d.deliver("0", "a", d.data(0), d.secret) // before its publisher has the answer
			d.acknowledge(0, []byte("a"))
			d.acknowledge(1, []byte("b"))
			d.deliver("1", "a", d.data(0), d.secret)
			d.deliver("0", "b", d.data(1), d.secret)
			if !c.instead {
				d.deliver("1", "b", d.data(1), d.secret)
			}
			c.happens(d)

			r := &Report{Ended: Quiet}
			d.report(r, 0, d.since())
			c.want.Acknowledged, c.want.Arrived = 2, 4-c.want.Lost
			if r.Checks != c.want {
				t.Errorf("got %+v, want %+v", r.Checks, c.want)
			}
			c.want.Acknowledged, c.want.Arrived = 0, 0
			if (r.Err() != nil) != (c.want != Checks{}) {
				t.Errorf("%v", r.Err())
			}
			if d.complete() != (c.want.Lost == 0) {
				t.Errorf("complete: %v", d.complete())
			}
		})
	}
}

func TestAnAnswerWithAnotherID(t *testing.T) {
	d := newDesk()
	d.deliver("0", "a", d.data(0), d.secret)
	d.acknowledge(0, []byte("x"))
	if d.unexpected.Load() != 1 {
		t.Error("nobody noticed")
	}
}

func TestADeliveryWhosePublisherGotNoAnswerIsNoFault(t *testing.T) {
	d := newDesk()
	d.acknowledge(0, []byte("a"))
	d.deliver("0", "b", d.data(1), d.secret)
	d.deliver("1", "b", d.data(1), d.secret)
	if d.complete() {
		t.Error("event a has not arrived")
	}
	d.deliver("0", "a", d.data(0), d.secret)
	d.deliver("1", "a", d.data(0), d.secret)
	r := &Report{Ended: Complete}
	d.report(r, 0, d.since())
	if want := (Checks{Acknowledged: 1, Arrived: 4, Unconfirmed: 2}); r.Checks != want || !d.complete() {
		t.Errorf("got %+v, want %+v", r.Checks, want)
	}
}

func TestWhatIsMissingAtAnInterruptIsNotLost(t *testing.T) {
	d := newDesk()
	d.acknowledge(0, []byte("a"))
	r := &Report{Ended: Interrupted}
	d.report(r, 0, d.since())
	if r.Checks.Lost != 0 || r.Checks.Outstanding != 2 || r.Err() != nil {
		t.Errorf("got %+v, %v", r.Checks, r.Err())
	}
}

// Two events are due at 0 and 1 s, the second after the warmup. The first call took long, and the
// second event could only be sent at 1.5 s: its latency begins at 1 s.
func TestLatencyCountsFromWhenTheEventWasDue(t *testing.T) {
	const ms = time.Millisecond
	l := newLedger(2, one, 100)
	l.events[0] = event{due: 0, sent: 0, answered: 1500 * ms, acknowledged: true}
	l.events[1] = event{due: 1000 * ms, sent: 1500 * ms, answered: 1510 * ms, acknowledged: true}
	l.arrivals[0].Store(int64(1500 * ms))
	l.arrivals[1].Store(int64(2000 * ms))
	r := &Report{Ended: Complete}
	l.report(r, time.Second, 1510*ms)
	same := func(ms float64) Quantiles { return Quantiles{P50: ms, P90: ms, P99: ms, Max: ms} }
	if r.Events != 1 || r.Deliveries != 1 || r.Latency != same(1000) || r.Publish != same(10) || r.Lag != same(500) {
		t.Errorf("got %+v", r)
	}
	if r.DeliveriesPerSecond != 1 { // it arrived a second after the warmup
		t.Errorf("got %v deliveries/s", r.DeliveriesPerSecond)
	}
}

func TestQuantilesAreByNearestRank(t *testing.T) {
	var all []time.Duration
	for i := range 200 {
		all = append(all, time.Duration(200-i)*time.Millisecond)
	}
	if got, want := quantiles(all), (Quantiles{P50: 100, P90: 180, P99: 198, Max: 200}); got != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
	if got := quantiles(all[:1]); got.P50 != got.Max || got.Max == 0 {
		t.Errorf("of one: %+v", got)
	}
	if got := quantiles(nil); got != (Quantiles{}) {
		t.Errorf("of none: %+v", got)
	}
}

func TestDataHasItsSizeAndItsNumber(t *testing.T) {
	for _, size := range []int{minSize, 512, maxSize} {
		l := newLedger(1000, one, size)
		for _, seq := range []int{0, 1, 999} {
			data := l.data(seq)
			if got, ok := l.seqOf([]byte(data)); len(data) != size || !ok || got != seq {
				t.Errorf("size %d, event %d: got %d bytes, %d, %v", size, seq, len(data), got, ok)
			}
		}
	}
}

func TestSeqOfReadsNoOtherData(t *testing.T) {
	l := newLedger(2, one, 100)
	const number = "0000000001"
	prefix, suffix := string(l.prefix), string(l.suffix)
	for _, data := range []string{
		"", number, prefix + number, number + suffix, prefix + "1" + suffix,
		prefix + "-000000001" + suffix, prefix + "0000000002" + suffix, prefix + "00000000x1" + suffix,
	} {
		if seq, ok := l.seqOf([]byte(data)); ok {
			t.Errorf("%q is event %d", data, seq)
		}
	}
}
