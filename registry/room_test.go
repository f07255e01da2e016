package registry

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/uuid"

	"github.com/fanfare-webhooks/fanfare"
	"github.com/fanfare-webhooks/fanfare/internal/store"
)

// naming wants events where each of n names, beginning with that number, has a value.
func naming(first, n int) *fanfare.Wishes {
	var names []string
	for i := range n {
		names = append(names, fmt.Sprintf(`"n%d":1`, first+i))
	}
	return &fanfare.Wishes{Canonical: []byte(`{"data":{` + strings.Join(names, ",") + `}}`)}
}

const namesOfOne = 64

func byNames(i int, w *fanfare.Webhook) { w.Wishes = naming(i*namesOfOne, namesOfOne) }

func edited(s *Snapshot, w fanfare.Webhook) *Snapshot {
	u := newUpdate(s, nil, noSecrets)
	u.Changed(store.Changed{Webhooks: []uuid.UUID{w.ID}})
	u.Webhook(w)
	return u.done(s.version + 1)
}

func TestAnAccountIsFullOfPlaces(t *testing.T) {
	const n = maxPlaces / namesOfOne
	s := crowd(n, byNames)
	const left = maxPlaces - n*namesOfOne
	full := func(i int, wishes *fanfare.Wishes) bool {
		w := benchWebhook(i, 1, 2)
		w.EventTypes, w.Wishes = []string{"invoice.paid"}, wishes
		return s.Full(&w) != ""
	}
	for name, c := range map[string]struct {
		webhook int
		wishes  *fanfare.Wishes
		want    bool
	}{
		"a new one with as many as are left":     {n, naming(1e6, left), false},
		"a new one with one more":                {n, naming(1e6, left+1), true},
		"a new one with names of others":         {n, naming(100, namesOfOne), false},
		"a new one without a filter":             {n, nil, false},
		"one that is edited, with other names":   {0, naming(1e6, namesOfOne), false},
		"one that is edited, and keeps its own":  {0, naming(0, namesOfOne), false},
		"a new one with modifiers and no filter": {n, &fanfare.Wishes{Modifiers: []byte(`{"a":1}`)}, false},
	} {
		if got := full(c.webhook, c.wishes); got != c.want {
			t.Errorf("%s: full is %v", name, got)
		}
	}
	for i := range 100 { // leaves the places of a hundred filters behind
		w := benchWebhook(0, 1, i+2)
		w.EventTypes, w.Wishes = []string{"invoice.paid"}, naming(2e6+i*namesOfOne, namesOfOne)
		s = edited(s, w)
	}
	if full(n, naming(1e6, left)) || !full(n, naming(1e6, left+1)) {
		t.Error("places that nobody looks at any more count")
	}
}

// What comes at the same time may be more than an account may have, but not without an end.
func TestPlacesHaveABoundThatNothingPasses(t *testing.T) {
	const fit, n = hardPlaces / namesOfOne, hardPlaces/namesOfOne + 5
	s := crowd(n, byNames)
	a, _ := s.accounts.get(benchID(1, 0))
	if got := a.selection.paths.Len(); got != fit*namesOfOne {
		t.Errorf("%d places are looked for", got)
	}
	if got := selected(a.selection); len(got) != fit {
		t.Errorf("the selection has %d webhooks: %.300q", len(got), got)
	}
	var over []int
	for i := range n {
		if w := s.Webhook(benchID(2, i)); !w.Enabled() {
			over = append(over, i)
			if w.Disabled.By != fanfare.DisabledByFilter || w.Disabled.Reason != errNoRoom.Error() {
				t.Errorf("it is disabled: %+v", *w.Disabled)
			}
		}
	}
	if len(over) != n-fit {
		t.Fatalf("%v are disabled", over)
	}
	if got := len(s.Match(nil, benchID(1, 0), "invoice.paid", []byte(`{}`))); got != n-fit {
		t.Errorf("%d webhooks miss an event and get no record of it", n-fit-got)
	}
	w := benchWebhook(over[0], 1, 2)
	w.EventTypes, w.Wishes = []string{"invoice.paid"}, naming(namesOfOne, 1)
	if s = edited(s, w); !s.Webhook(w.ID).Enabled() {
		t.Error("a filter without a place of its own has no room")
	}
	for i := range 20 { // each leaves the places of the one before it behind
		w := benchWebhook(0, 1, i+2)
		w.EventTypes, w.Wishes = []string{"invoice.paid"}, naming(2e6+i*namesOfOne, namesOfOne)
		if s = edited(s, w); !s.Webhook(w.ID).Enabled() {
			t.Fatal("what is edited has no room where it was")
		}
	}
	if a, _ := s.accounts.get(benchID(1, 0)); a.selection.paths.Len() > hardPlaces {
		t.Errorf("%d places are looked for", a.selection.paths.Len())
	}
}

func TestAnAccountIsFullOfWebhooksThatEachEventAsks(t *testing.T) {
	s := crowd(maxAsked, func(i int, w *fanfare.Webhook) {
		w.Wishes = &fanfare.Wishes{Canonical: fmt.Appendf(nil, `{"data":{"amount":{"$gt":%d}}}`, i)}
	})
	var many string
	for i := range maxRows {
		many += fmt.Sprintf("%d,", i+100)
	}
	for name, c := range map[string]struct {
		webhook int
		wishes  fanfare.Wishes
		want    bool
	}{
		"a comparison":                  {maxAsked, fanfare.Wishes{Canonical: []byte(`{"data":{"amount":{"$gt":1}}}`)}, true},
		"one of two equalities":         {maxAsked, fanfare.Wishes{Canonical: []byte(`{"$or":[{"data":{"a":1}},{"data":{"a":2}}]}`)}, true},
		"an equality of many values":    {maxAsked, fanfare.Wishes{Canonical: []byte(`{"data":{"a":{"$in":[` + many + `1]}}}`)}, true},
		"modifiers of many values":      {maxAsked, fanfare.Wishes{Modifiers: []byte(`{"a":[` + many + `1]}`)}, true},
		"an equality":                   {maxAsked, fanfare.Wishes{Canonical: []byte(`{"data":{"a":1,"amount":{"$gt":1}}}`)}, false},
		"a modifier beside it":          {maxAsked, fanfare.Wishes{Canonical: []byte(`{"data":{"amount":{"$gt":1}}}`), Modifiers: []byte(`{"a":1}`)}, false},
		"nothing":                       {maxAsked, fanfare.Wishes{Canonical: []byte(`{}`)}, false},
		"one of them that is edited":    {0, fanfare.Wishes{Canonical: []byte(`{"data":{"amount":{"$lt":1}}}`)}, false},
		"an account that has none":      {-1, fanfare.Wishes{Canonical: []byte(`{"data":{"amount":{"$gt":1}}}`)}, false},
		"a filter that cannot be read":  {maxAsked, fanfare.Wishes{Canonical: []byte(`{"data":{"a":{"$regex":"x"}}}`)}, false},
		"an equality, and many of them": {maxAsked, fanfare.Wishes{Canonical: []byte(`{"data":{"a":{"$in":[` + many + `1]},"b":1}}`)}, false},
	} {
		w := benchWebhook(max(c.webhook, 0), 1, 2)
		if c.webhook < 0 {
			w.AccountID = benchID(1, 7)
		}
		w.EventTypes, w.Wishes = []string{"invoice.paid"}, &c.wishes
		if got := s.Full(&w) != ""; got != c.want {
			t.Errorf("%s: full is %v", name, got)
		}
	}
	w := benchWebhook(0, 1, 2)
	w.EventTypes, w.Wishes = []string{"invoice.paid"}, nil
	s = edited(s, w)
	w = benchWebhook(maxAsked, 1, 2)
	w.EventTypes, w.Wishes = []string{"invoice.paid"}, &fanfare.Wishes{Canonical: []byte(`{"data":{"amount":{"$gt":1}}}`)}
	if s.Full(&w) != "" {
		t.Error("one that left still counts")
	}
}
