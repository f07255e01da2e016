package lab

import (
	"crypto/sha256"
	"maps"
	"net/http"
	"testing"
	"time"

	"github.com/fanfare-webhooks/fanfare"
)

// planted is a small world whose journals agree: three events for a webhook, of which the second needed two
// tries. A test spoils it.
type planted struct {
	*checker
	ledger
	begin time.Time
}

func plant() *planted {
	begin := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	t := &topic{account: "a", typ: "lab.planted"}
	p := &planted{begin: begin, ledger: ledger{name: "w", steps: seconds(1, 2), owed: numbers(0, 3), states: make(map[string]stated)}}
	var events []event
	for number := range 3 {
		id := fanfare.EventID(fanfare.PositionAt(begin)+fanfare.Position(number), 7).String()
		events = append(events, event{topic: t, status: http.StatusAccepted, id: id})
		p.states[id] = stated{State: "delivered"}
	}
	p.checker = newChecker(events)
	p.arrives(0, 1, 0, http.StatusOK)
	p.arrives(1, 1, 0, http.StatusInternalServerError)
	p.arrives(1, 2, time.Second, http.StatusOK)
	p.arrives(2, 1, 0, http.StatusNoContent)
	return p
}

// arrives journals a request that came some time after the beginning and was answered at once.
func (p *planted) arrives(number, attempt int, after time.Duration, status int) *arrival {
	e, at := &p.events[number], p.begin.Add(after)
	p.arrivals = append(p.arrivals, arrival{
		event: number, id: e.id, at: at, ended: at, attempt: attempt, status: status, signed: true,
		sum: sha256.Sum256(envelopeOf(e, number, e.id)),
	})
	return &p.arrivals[len(p.arrivals)-1]
}

// says has the API say something of an event's delivery.
func (p *planted) says(number int, s stated) { p.states[p.events[number].id] = s }

func (p *planted) result() map[string]int64 {
	p.meet(p.arrivals)
	p.check(&p.ledger)
	return p.counts
}

func TestTheCheckerFindsNothingWhereNothingIsWrong(t *testing.T) {
	p := plant()
	if got := p.result(); len(got) != 0 {
		t.Errorf("%v: %v", got, p.examples)
	}
	if p.pairs != 3 || p.arrived != 3 || p.requests != 4 {
		t.Errorf("%d pairs, %d delivered, %d requests", p.pairs, p.arrived, p.requests)
	}
}

func TestTheCheckerFindsWhatIsPlanted(t *testing.T) {
	for _, c := range []struct {
		name  string
		spoil func(p *planted)
		want  map[string]int64
	}{
		{"an event that never arrived", func(p *planted) {
			p.arrivals = p.arrivals[1:]
			p.says(0, stated{"exhausted", "schedule"})
		}, map[string]int64{lost: 1, differing: 1}},
		{"one that was only refused by its receiver", func(p *planted) {
			p.arrivals[0].status = http.StatusInternalServerError
			p.says(0, stated{"pending", ""})
		}, map[string]int64{lost: 1, differing: 1}},
		{"one that nobody was told of, and that reached one of its two webhooks", func(p *planted) {
			p.events[0].status, p.events[0].id = 0, ""
			p.meet(p.arrivals)
			p.arrivals = p.arrivals[1:]
			p.says(0, stated{"exhausted", "quarantined"})
		}, map[string]int64{lost: 1}},
		{"one that arrived twice", func(p *planted) { p.arrives(0, 1, time.Second, http.StatusOK) }, map[string]int64{again: 1}},
		{"one that arrived four times", func(p *planted) {
			for n := range 3 {
				p.arrives(2, 1, time.Duration(n)*time.Second, http.StatusOK)
			}
		}, map[string]int64{again: 3}},
		{"a number that nobody published", func(p *planted) { p.arrives(0, 1, 0, http.StatusOK).event = 99 }, map[string]int64{unexpected: 1}},
		{"no number", func(p *planted) { p.arrives(0, 1, 0, http.StatusOK).event = -1 }, map[string]int64{unexpected: 1}},
		{"one that was refused", func(p *planted) {
			p.events[0].status = http.StatusTooManyRequests
			p.owed = p.owed[1:]
			delete(p.states, p.events[0].id)
		}, map[string]int64{unexpected: 1}},
		{"one for another webhook", func(p *planted) {
			p.owed = p.owed[:2]
			delete(p.states, p.events[2].id)
		}, map[string]int64{unexpected: 1}},
		{"one number under two ids", func(p *planted) {
			a := p.arrives(0, 1, time.Second, http.StatusBadRequest)
			a.id = fanfare.EventID(fanfare.PositionAt(p.begin)+50, 7).String()
			a.sum = sha256.Sum256(envelopeOf(&p.events[0], 0, a.id))
		}, map[string]int64{unexpected: 1}},
		{"another body", func(p *planted) { p.arrivals[0].sum[3] ^= 1 }, map[string]int64{wrongBody: 1}},
		{"the body of another event", func(p *planted) { p.arrivals[0].sum = p.arrivals[1].sum }, map[string]int64{wrongBody: 1}},
		{"a bad signature", func(p *planted) { p.arrivals[2].signed = false }, map[string]int64{forged: 1}},
		{"a retry before its step", func(p *planted) { p.arrivals[2].at = p.begin.Add(700 * time.Millisecond) }, map[string]int64{early: 1}},
		{"a retry that counts from the start of the try before", func(p *planted) {
			p.arrivals[1].ended = p.begin.Add(500 * time.Millisecond)
		}, map[string]int64{early: 1}},
		{"a try that a crash repeats under its number is not early", func(p *planted) {
			p.arrives(1, 1, 800*time.Millisecond, http.StatusInternalServerError)
		}, map[string]int64{}},
		{"after a try without an answer nothing is known of steps", func(p *planted) {
			p.arrivals[1].status, p.arrivals[2].at = 0, p.begin
		}, map[string]int64{}},
		{"delivered, and nobody said 2xx", func(p *planted) { p.arrivals[0].status = http.StatusTeapot }, map[string]int64{lost: 1, phantom: 1}},
		{"delivered by a receiver that keeps no journal", func(p *planted) {
			p.failing, p.unheard, p.arrivals = true, true, p.arrivals[1:]
		}, map[string]int64{}},
		{"a pair that the API does not know", func(p *planted) { delete(p.states, p.events[1].id) }, map[string]int64{unaccounted: 1}},
		{"a pair without a state", func(p *planted) { p.says(1, stated{}) }, map[string]int64{unaccounted: 1}},
		{"arrived, and still pending", func(p *planted) { p.says(1, stated{"pending", ""}) }, map[string]int64{differing: 1}},
		{"arrived, and given up", func(p *planted) { p.says(1, stated{"exhausted", "schedule"}) }, map[string]int64{differing: 1}},
		{"a state that there is not", func(p *planted) { p.says(1, stated{"lost", ""}) }, map[string]int64{differing: 1}},
		{"deliveries of events that nobody published", func(p *planted) {
			p.states["x"], p.states["y"] = stated{State: "pending"}, stated{State: "delivered"}
		}, map[string]int64{differing: 2}},
		{"of an event that may have been stored", func(p *planted) {
			p.events = append(p.events, event{topic: p.events[0].topic, status: http.StatusServiceUnavailable})
			p.owed = append(p.owed, 3)
			p.states["x"] = stated{State: "delivered"}
		}, map[string]int64{}},
		{"given up before the last try", func(p *planted) {
			p.failing = true
			p.arrivals[3].status = http.StatusBadGateway
			p.says(2, stated{"exhausted", "schedule"})
		}, map[string]int64{differing: 1}},
		{"given up after the last try", func(p *planted) {
			p.failing = true
			p.arrivals[3].status = http.StatusBadGateway
			p.arrives(2, 2, time.Second, http.StatusBadGateway)
			p.arrives(2, 3, 3*time.Second, http.StatusBadGateway)
			p.says(2, stated{"exhausted", "schedule"})
		}, map[string]int64{}},
		{"what fails may wait, but not be called delivered", func(p *planted) {
			p.failing = true
			p.arrivals[0].status, p.arrivals[3].status = http.StatusBadGateway, http.StatusBadGateway
			p.says(2, stated{"pending", ""})
		}, map[string]int64{phantom: 1}},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := plant()
			c.spoil(p)
			if got := p.result(); !maps.Equal(got, c.want) {
				t.Errorf("got %v, want %v: %v", got, c.want, p.examples)
			}
		})
	}
}

func TestAPublishersJournalSaysWhatIsCertain(t *testing.T) {
	for _, c := range []struct {
		name                  string
		e                     event
		acknowledged, refused bool
	}{
		{"202", event{status: http.StatusAccepted}, true, false},
		{"no answer", event{}, false, false},
		{"429", event{status: http.StatusTooManyRequests}, false, true},
		{"422", event{status: http.StatusUnprocessableEntity}, false, true},
		{"503: may be stored", event{status: http.StatusServiceUnavailable}, false, false},
		{"503: too many wait", event{status: http.StatusServiceUnavailable, shed: true}, false, true},
		{"500", event{status: http.StatusInternalServerError}, false, false},
	} {
		if c.e.acknowledged() != c.acknowledged || c.e.refused() != c.refused {
			t.Errorf("%s: acknowledged %t, refused %t", c.name, c.e.acknowledged(), c.e.refused())
		}
	}
}
