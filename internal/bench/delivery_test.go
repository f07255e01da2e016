package bench

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/fanfare-webhooks/fanfare/signature"
)

// The envelope is the one that a node sends, or means the same.
func TestEnvelopes(t *testing.T) {
	const data = `{"n": 1}`
	const good = `{"id":"a","type":"invoice.paid","timestamp":"2026-11-21T10:00:00.000Z","account_id":"` + deskAccount + `","data":` + data + `}`
	for _, c := range []struct{ name, body, fault string }{
		{"the usual one", good, ""},
		{"members in another order", `{"data":` + data + `, "id":"a","account_id":"` + deskAccount + `","type":"invoice.paid","timestamp":"2026-11-21T10:00:00Z"}`, ""},
		{"another member", strings.Replace(good, `"type"`, `"new":1,"type"`, 1), ""},
		{"another id", strings.Replace(good, `"a"`, `"b"`, 1), `its id is "b", not "a"`},
		{"another type", strings.Replace(good, "invoice.paid", "invoice.void", 1), `its type is "invoice.void"`},
		{"another account", strings.Replace(good, "01900000", "01900001", 1), `its account_id is "01900001-`},
		{"no timestamp", strings.Replace(good, `"timestamp":"2026-11-21T10:00:00.000Z",`, "", 1), "no timestamp"},
		{"a timestamp that is none", strings.Replace(good, "10:00:00", "1O:00:00", 1), "the body: "},
		{"an end too few", good[:len(good)-2], "the body: "},
	} {
		t.Run(c.name, func(t *testing.T) {
			account := deskAccount
			got, err := unwrap([]byte(c.body), []byte("a"), deskType, &account)
			switch {
			case c.fault == "" && (err != nil || string(got) != data):
				t.Errorf("got %q, %v", got, err)
			case c.fault != "" && (err == nil || !strings.Contains(err.Error(), c.fault)):
				t.Errorf("got %v, want %q", err, c.fault)
			}
		})
	}
	account := deskAccount
	if _, err := unwrap([]byte(good), []byte("a"), deskType, nil); err == nil {
		t.Error("it is taken before the account is known")
	}
	if n := testing.AllocsPerRun(100, func() { _, _ = unwrap([]byte(good), []byte("a"), deskType, &account) }); n > 1 {
		t.Errorf("the usual one costs %v allocations: it is parsed", n) // one is the test's own
	}
}

func TestSignaturesInOtherForms(t *testing.T) {
	for _, c := range []struct {
		name string
		edit func(http.Header)
		bad  int
	}{
		{"one of two", func(h http.Header) {
			h.Set(signature.HeaderSignature, "v1,AAAA "+h.Get(signature.HeaderSignature))
		}, 0},
		{"none", func(h http.Header) { h.Del(signature.HeaderSignature) }, 1},
		{"no time", func(h http.Header) { h.Del(signature.HeaderTimestamp) }, 1},
		{"a time written otherwise", func(h http.Header) {
			h.Set(signature.HeaderTimestamp, "0"+h.Get(signature.HeaderTimestamp))
		}, 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			d := newDesk()
			body := envelope("a", d.data(0))
			r, err := http.NewRequest(http.MethodPost, "http://receiver/0", strings.NewReader(body))
			if err != nil {
				t.Fatal(err)
			}
			signature.SetHeaders(r.Header, "a", time.Now(), []byte(body), d.secret)
			c.edit(r.Header)
			d.send(r)
			if int(d.badSignature.Load()) != c.bad || d.arrived.Load() != 1 {
				t.Errorf("%d bad signatures, %d arrived: %q", d.badSignature.Load(), d.arrived.Load(), d.surprises)
			}
		})
	}
}

func TestASignatureThatIsTooOld(t *testing.T) {
	d := newDesk()
	body := envelope("a", d.data(0))
	r, err := http.NewRequest(http.MethodPost, "http://receiver/0", strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	signature.SetHeaders(r.Header, "a", time.Now().Add(-2*signature.Tolerance), []byte(body), d.secret)
	d.send(r)
	if d.badSignature.Load() != 1 {
		t.Error("it is accepted")
	}
}

// What is no HTTP is counted, what was cut off is not: it did not arrive.
func TestRequestsThatCannotBeRead(t *testing.T) {
	for _, c := range []struct {
		text       string
		unexpected int64
	}{
		{"POST /0 HTTP/3\r\n\r\n", 1},
		{"POST /0 HTTP/1.1\r\nContent-Length: 999999999\r\n\r\n", 1},
		{"POST /0 HTTP/1.1\r\nContent-Length: 9\r\n\r\n{", 0},
		{"POST /0", 0},
		{"", 0},
	} {
		d := newDesk()
		if status := d.raw(c.text); status != 0 || d.unexpected.Load() != c.unexpected {
			t.Errorf("%q: got %d, %d unexpected", c.text, status, d.unexpected.Load())
		}
	}
}

// Of four webhooks in two accounts, event 0 is for the first, event 1 for the third.
func TestADeliveryToAnotherGroupIsUnexpected(t *testing.T) {
	for webhook, want := range map[string]int64{"0": 0, "1": 1, "2": 1, "3": 1} {
		d := newDeskOf(Config{Webhooks: 1, Accounts: 2, WebhooksTotal: 4}, 4)
		w := int(webhook[0] - '0')
		_, group, _ := d.of(w)
		d.post(webhook, "a", strings.Replace(envelope("a", d.data(0)), deskType, d.types[group], 1), d.secret)
		if d.unexpected.Load() != want || d.arrived.Load() != 1-want {
			t.Errorf("webhook %s: %d unexpected, %d arrived: %q", webhook, d.unexpected.Load(), d.arrived.Load(), d.surprises)
		}
	}
}

func TestReachedAreThoseThatWereDueAnEvent(t *testing.T) {
	d := newDeskOf(Config{Webhooks: 2, Accounts: 2, WebhooksTotal: 8}, 6)
	for seq, want := range []int{2, 4, 6, 8, 8, 8} { // events 4 and 5 go where 0 and 1 went
		d.acknowledge(seq, []byte{byte(seq)})
		if got := d.reached(); got != want {
			t.Errorf("after event %d: %d, want %d", seq, got, want)
		}
	}
}
