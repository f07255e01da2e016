package registry

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"
	"pgregory.net/rapid"

	"github.com/fanfare-webhooks/fanfare"
	"github.com/fanfare-webhooks/fanfare/internal/filter"
	"github.com/fanfare-webhooks/fanfare/internal/store"
)

func sampled(texts ...string) *rapid.Generator[[]byte] {
	return rapid.Custom(func(t *rapid.T) []byte {
		if text := rapid.SampledFrom(texts).Draw(t, "text"); text != "" {
			return []byte(text)
		}
		return nil
	})
}

// What worlds draw from: often nothing, and values that meet.
var (
	someFilters = sampled("", "", "", `{"data":{"id":1}}`, `{"data":{"id":2}}`, `{"data":{"id":{"$in":[1,2,3]}}}`, `{"data":{"id":1,"name":"x"}}`,
		`{"data":{"name":"x"}}`, `{"data":{"name":{"$starts_with":"x"}}}`, `{"$or":[{"data":{"id":1}},{"data":{"name":"y"}}]}`, `{"$not":{"data":{"id":1}}}`,
		`{"data":{"deep":{"er":{"id":1}}}}`, `{"data":{"id":{"$gt":1}}}`, `{"type":"a.b"}`, `{"type":{"$in":["a","a.c"]},"data":{"name":"y"}}`,
		`{"account_id":"00000000-0000-0000-0000-000000000000"}`, `{"data":{"$exists":true}}`, `{"data":{"id":{"$regex":"x"}}}`, `{}`)
	someChoices      = sampled("", "", "", `{"kind":"user"}`, `{"kind":["user","device"]}`, `{"kind":"device","site":[1,"x"]}`, `{"site":1}`, `{"other":true}`, `{"kind":{}}`)
	someDeclarations = sampled("", "", `{"kind":{"path":"/kind"}}`, `{"kind":{"path":"/deep/kind"},"site":{"path":"/site/0"}}`, `{"site":{"path":"/site"}}`,
		`{"other":{"path":"/other"},"kind":{"path":"/kind"}}`, `{"kind":{"path":"no pointer"}}`)
	someData = sampled(`{}`, `{"id":1,"name":"x","kind":"user"}`, `{"id":[1,2,2],"kind":["device","user"],"name":"xy"}`, `{"id":1.0,"id":1}`,
		`{"deep":{"er":{"id":1},"kind":"user"},"site":[1,2]}`, `{"id":2,"kind":"device","site":"x","other":true,"name":"y"}`, `{"id":3,"name":["x","y"],"site":1}`,
		`{"id":"1","kind":null}`, `{"id":[2`+zeros+`],"kind":["device"`+zeros+`]}`, `{"id":[0`+zeros+`,1],"kind":["user"`+zeros+`]}`)
	zeros = strings.Repeat(",0", 8200) // more than the conditions of a filter look through
)

func drawWishes(t *rapid.T) *fanfare.Wishes {
	w := fanfare.Wishes{Canonical: someFilters.Draw(t, "filter"), Modifiers: someChoices.Draw(t, "choices")}
	if w.Canonical == nil && w.Modifiers == nil {
		return nil
	}
	return &w
}

// wants is whether a webhook wants an event beyond its type, as plainly as it can be said.
func (w *world) wants(h fanfare.Webhook, account uuid.UUID, eventType string, data []byte) bool {
	if h.Wishes == nil {
		return true
	}
	if string(h.Wishes.Modifiers) == `{"kind":{}}` {
		return true // it counts as disabled
	}
	if len(h.Wishes.Canonical) > 0 {
		match, _, faults := filter.Explain(h.Wishes.Canonical, filter.Event{Type: eventType, AccountID: account, Data: data})
		if faults != nil {
			return true // and so does this one
		}
		if !match {
			return false
		}
	}
	if len(h.Wishes.Modifiers) == 0 {
		return true
	}
	var choices map[string]any
	if err := json.Unmarshal(h.Wishes.Modifiers, &choices); err != nil {
		panic(err)
	}
	declared := make(map[string]struct{ Path string })
	if text := w.types[eventType].Modifiers; len(text) > 0 {
		if strings.Contains(string(text), "no pointer") {
			return false
		}
		if err := json.Unmarshal(text, &declared); err != nil {
			panic(err)
		}
	}
	for name, choice := range choices {
		d, ok := declared[name]
		if !ok {
			continue
		}
		value, found := naiveAt(data, d.Path)
		if !found || !meet(value, choice) {
			return false
		}
	}
	return true
}

func naiveAt(data []byte, pointer string) (value any, found bool) {
	if err := json.Unmarshal(data, &value); err != nil {
		panic(err)
	}
	for _, step := range strings.Split(pointer, "/")[1:] {
		switch v := value.(type) {
		case map[string]any:
			if value, found = v[step]; !found {
				return nil, false
			}
		case []any:
			if step != "0" || len(v) == 0 {
				return nil, false
			}
			value = v[0]
		default:
			return nil, false
		}
	}
	return value, true
}

// meet says whether a value, or one of a list, is a choice, or one of a list.
func meet(value, choice any) bool {
	list := func(v any) []any {
		if l, ok := v.([]any); ok {
			return l
		}
		return []any{v}
	}
	return slices.ContainsFunc(list(value), func(v any) bool { return slices.Contains(list(choice), v) })
}

// Accounts with many webhooks that all look into events, and that are edited.
func TestSelectionsFindWhatANaiveScanFinds(t *testing.T) {
	var cases, found, edits int
	rapid.Check(t, func(t *rapid.T) {
		w, s := newWorld(), new(Snapshot)
		var accounts []uuid.UUID
		for _, parent := range []int{-1, 0, 1} {
			id := w.id()
			if w.accounts[id] = uuid.Nil; parent >= 0 {
				w.accounts[id] = accounts[parent]
			}
			accounts = append(accounts, id)
		}
		w.changed.Accounts = accounts
		for range rapid.IntRange(1, 4).Draw(t, "updates") {
			for _, name := range []string{"a", "a.b", "b"} {
				w.types[name] = fanfare.EventType{Name: name, Modifiers: someDeclarations.Draw(t, "modifiers")}
				w.changed.EventTypes = append(w.changed.EventTypes, name)
			}
			for range rapid.IntRange(1, 25).Draw(t, "webhooks") {
				h := fanfare.Webhook{ID: w.id(), AccountID: rapid.SampledFrom(accounts).Draw(t, "account"), RetrySchedule: []time.Duration{time.Minute}}
				if known := sorted(w.webhooks); len(known) > 0 && rapid.IntRange(0, 2).Draw(t, "edit") == 0 {
					edits++
					h = w.webhooks[rapid.SampledFrom(known).Draw(t, "which")]
				}
				h.Version++
				h.EventTypes = rapid.SampledFrom([][]string{{"*"}, {"a.*"}, {"a", "a.b"}, {"a.b"}, {"a.*", "b"}, {"*", "webhook.*"}}).Draw(t, "patterns")
				h.IncludeSubaccounts, h.Wishes = rapid.Bool().Draw(t, "subaccounts"), drawWishes(t)
				w.webhooks[h.ID] = h
				w.changed.Webhooks = append(w.changed.Webhooks, h.ID)
			}
			u := newUpdate(s, nil, noSecrets)
			w.tell(u, false)
			s, w.changed = u.done(1), store.Changed{}
			for range 6 {
				account, eventType := rapid.SampledFrom(accounts).Draw(t, "in"), rapid.SampledFrom([]string{"a", "a.b", "b", "a.b", "a", "webhook.disabled"}).Draw(t, "type")
				data := someData.Draw(t, "data")
				var got []string
				for _, hook := range s.Match(nil, account, eventType, data) {
					got = append(got, fmt.Sprint(hook.ID, " v", hook.Version))
				}
				slices.Sort(got)
				if diff := cmp.Diff(w.match(account, eventType, data), got); diff != "" {
					t.Fatalf("%s %s in %s: %s", eventType, data, account, diff)
				}
				cases, found = cases+len(w.webhooks), found+len(got)
			}
		}
	})
	t.Logf("%d webhooks were asked for, %d found; %d edits", cases, found, edits)
	if found < 1000 || found > cases/2 || edits < 100 {
		t.Error("the cases are too much alike")
	}
}

// crowd is an account with many webhooks that look into events.
func crowd(n int, edit func(i int, w *fanfare.Webhook)) *Snapshot {
	u := newUpdate(new(Snapshot), nil, noSecrets)
	u.Account(store.RegistryAccount{ID: benchID(1, 0)})
	for i := range n {
		w := benchWebhook(i, 1, 1)
		w.EventTypes = []string{"invoice.paid"}
		edit(i, &w)
		u.Webhook(w)
	}
	return u.done(1)
}

func byCustomer(i int, w *fanfare.Webhook) {
	w.Wishes = &fanfare.Wishes{Canonical: fmt.Appendf(nil, `{"data":{"currency":"EUR","customer_id":"c%d"}}`, i)}
}

// Of many webhooks with a value each, only those are asked that the event's value leads to.
func TestManyWebhooksAreFoundByTheirValues(t *testing.T) {
	const n = 2000
	for name, edit := range map[string]func(int, *fanfare.Webhook){
		"by a filter": byCustomer,
		"by the rarer of two conditions": func(i int, w *fanfare.Webhook) {
			w.Wishes = &fanfare.Wishes{Canonical: fmt.Appendf(nil, `{"data":{"currency":"EUR","customer_id":"c%d","zone":{"$in":["eu","us"]}}}`, i)}
		},
		"by a modifier": func(i int, w *fanfare.Webhook) {
			w.Wishes = &fanfare.Wishes{Modifiers: fmt.Appendf(nil, `{"customer":"c%d"}`, i)}
		},
		"by the rarer of both": func(i int, w *fanfare.Webhook) {
			w.Wishes = &fanfare.Wishes{
				Modifiers: fmt.Appendf(nil, `{"customer":"c%d"}`, i), Canonical: []byte(`{"data":{"currency":"EUR"}}`),
			}
		},
		"under every pattern": func(i int, w *fanfare.Webhook) {
			byCustomer(i, w)
			w.EventTypes = []string{"call.*", "invoice.*"}
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := crowd(n, edit)
			u := newUpdate(s, nil, noSecrets)
			u.EventType(fanfare.EventType{Name: "invoice.paid", Modifiers: []byte(`{"customer":{"path":"/customer_id"}}`)})
			s = u.done(2)
			for _, i := range []int{0, 1, 2, n / 2, n - 1} {
				got := s.Match(nil, benchID(1, 0), "invoice.paid", fmt.Appendf(nil, `{"customer_id":"c%d","currency":"EUR","zone":"eu"}`, i))
				if len(got) != 1 || got[0].ID != benchID(2, i) {
					t.Errorf("the event of customer %d matches %d webhooks", i, len(got))
				}
			}
			a, _ := s.accounts.get(benchID(1, 0))
			crowded := 0
			for _, part := range a.selection.own.parts {
				for _, r := range part {
					if r.hash != join(hashText("invoice.paid"), r.chooser.dim.hash(), anyValue) {
						crowded = max(crowded, len(a.selection.own.find(r.hash)))
					}
				}
			}
			if crowded > 4 {
				t.Errorf("%d webhooks stand in one place", crowded)
			}
		})
	}
}

// Hashes are hints: a row that stands in a wrong place changes nothing.
func TestAHashThatTwoShareMisleadsNobody(t *testing.T) {
	s := crowd(2, byCustomer)
	a, _ := s.accounts.get(benchID(1, 0))
	var wrong []row
	for c := range a.selection.choosers {
		wrong = append(wrong, row{join(hashText("invoice.lost"), 0), c})
	}
	own := a.selection.own.edit(nil, wrong)
	data := []byte(`{"customer_id":"c0","currency":"EUR"}`)
	l := newLook(benchID(1, 0), "invoice.lost", nil, data)
	defer l.close()
	if got := a.selection.match(nil, &own, l); len(got) != 0 {
		t.Errorf("%d webhooks match", len(got))
	}
}

// An event whose array has a value many times asks no webhook as often as that.
func TestAValueThatStandsInAnArrayOftenIsLookedUpOnce(t *testing.T) {
	s := crowd(1, func(_ int, w *fanfare.Webhook) {
		w.Wishes = &fanfare.Wishes{Canonical: []byte(`{"data":{"id":0}}`)}
	})
	a, _ := s.accounts.get(benchID(1, 0))
	l := newLook(benchID(1, 0), "invoice.paid", nil, []byte(`{"id":[1`+zeros+`]}`))
	defer l.close()
	l.data.Scan(a.selection.paths)
	if l.findValues(a.selection.dims[0].dim); len(l.hashes) != 2 {
		t.Errorf("%d values are looked up", len(l.hashes))
	}
}

func TestPlacesThatNobodyLooksAtAreForgotten(t *testing.T) {
	s := crowd(10, byCustomer)
	for i := range 1000 {
		w := benchWebhook(3, 1, i+2)
		w.Wishes = &fanfare.Wishes{Canonical: fmt.Appendf(nil, `{"data":{"place_%d":1}}`, i)}
		u := newUpdate(s, nil, noSecrets)
		u.Changed(store.Changed{Webhooks: []uuid.UUID{w.ID}})
		u.Webhook(w)
		s = u.done(int64(i))
	}
	a, _ := s.accounts.get(benchID(1, 0))
	if n := a.selection.paths.Len(); n > 200 {
		t.Errorf("%d places are looked for", n)
	}
	if got := selected(a.selection); len(got) != 10 {
		t.Errorf("the selection has %q", got)
	}
}

func TestAWebhookWhoseFilterCannotBeReadIsKeptAndCountsAsDisabled(t *testing.T) {
	for name, edit := range map[string]func(*fanfare.Webhook){
		"filter": func(w *fanfare.Webhook) {
			w.Wishes = &fanfare.Wishes{Canonical: []byte(`{"data":{"a":{"$regex":"x"}}}`)}
		},
		"modifiers": func(w *fanfare.Webhook) { w.Wishes = &fanfare.Wishes{Modifiers: []byte(`{"a":null}`)} },
	} {
		t.Run(name, func(t *testing.T) {
			var broken fanfare.Webhook
			s := crowd(3, func(i int, w *fanfare.Webhook) {
				if i == 1 {
					edit(w)
					broken = *w
				}
			})
			got := s.Match(nil, benchID(1, 0), "invoice.paid", []byte(`{}`))
			if len(got) != 3 {
				t.Fatalf("%d webhooks match", len(got))
			}
			w := s.Webhook(broken.ID)
			if w.Enabled() || w.Disabled.By != fanfare.DisabledByFilter || !strings.Contains(w.Disabled.Reason, "cannot be read") {
				t.Errorf("it is disabled: %+v", w.Disabled)
			}
			if d := Unusable(&broken); d == nil || *d != *w.Disabled {
				t.Errorf("it counts as disabled: %+v", d)
			}
		})
	}
}

func TestMatchingFiltersAllocatesNothing(t *testing.T) {
	s := crowd(100, byCustomer)
	data := []byte(`{"customer_id":"c7","currency":"EUR"}`)
	dst := make([]*Webhook, 0, 10)
	n := testing.AllocsPerRun(200, func() {
		if len(s.Match(dst, benchID(1, 0), "invoice.paid", data)) != 1 {
			t.Fatal("no match")
		}
	})
	if n >= 3 { // the race detector's pools forget on purpose
		t.Errorf("a match allocates %v times", n)
	}
}
