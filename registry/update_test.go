package registry

import (
	"bytes"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"
	"pgregory.net/rapid"

	"github.com/fanfare-webhooks/fanfare"
	"github.com/fanfare-webhooks/fanfare/internal/seal"
	"github.com/fanfare-webhooks/fanfare/internal/store"
	"github.com/fanfare-webhooks/fanfare/signature"
)

// world is what the database holds, as plain as can be.
type world struct {
	accounts map[uuid.UUID]uuid.UUID // → parent
	signing  map[uuid.UUID]string    // accounts that say how their webhooks are signed
	webhooks map[uuid.UUID]fanfare.Webhook
	keys     map[uuid.UUID]store.RegistryKey
	types    map[string]fanfare.EventType
	made     int
	changed  store.Changed // since the last update
}

func newWorld() *world {
	return &world{
		accounts: make(map[uuid.UUID]uuid.UUID),
		signing:  make(map[uuid.UUID]string),
		webhooks: make(map[uuid.UUID]fanfare.Webhook),
		keys:     make(map[uuid.UUID]store.RegistryKey),
		types:    make(map[string]fanfare.EventType),
	}
}

// id makes ids that share shards: there are few of those.
func (w *world) id() uuid.UUID {
	w.made++
	return uuid.UUID{0: byte(w.made >> 8), 1: byte(w.made), 6: 0x70, 8: 0x80, 15: byte(w.made % 3)}
}

func sorted[V any](m map[uuid.UUID]V) []uuid.UUID {
	return slices.SortedFunc(maps.Keys(m), func(a, b uuid.UUID) int { return bytes.Compare(a[:], b[:]) })
}

func (w *world) within(root, account uuid.UUID) bool {
	for ; account != uuid.Nil; account = w.accounts[account] {
		if account == root {
			return true
		}
	}
	return false
}

// tell gives a sink everything, or what changed.
func (w *world) tell(sink store.RegistrySink, all bool) {
	c := w.changed
	if !all {
		sink.Changed(c)
	}
	for id, parent := range w.accounts {
		if all || slices.Contains(c.Accounts, id) {
			sink.Account(store.RegistryAccount{ID: id, ParentID: parent, Signature: []byte(w.signing[id])})
		}
	}
	for name, t := range w.types {
		if all || slices.Contains(c.EventTypes, name) {
			sink.EventType(t)
		}
	}
	for _, id := range sorted(w.keys) {
		if k := w.keys[id]; all || slices.Contains(c.KeyOwners, k.AccountID.UUID) {
			sink.Key(k)
		}
	}
	for id, hook := range w.webhooks {
		if all || slices.Contains(c.Webhooks, id) {
			sink.Webhook(hook)
		}
	}
}

var (
	someTypes    = rapid.SampledFrom([]string{"a", "b", "a.b", "a.c", "ab.c", "a.b.c", "a.b.d", "a_b", "webhook.disabled", "webhook.other"})
	somePatterns = rapid.SliceOfN(rapid.SampledFrom([]string{"*", "a.*", "a.b.*", "ab.*", "b.*", "a", "a.b", "a.b.c", "a.c", "a_b", "webhook.*", "webhook.disabled", "webhook.other"}), 1, 5)
)

// someOptions are some that are sound, none, and some that cannot be read.
var someOptions = rapid.SampledFrom([]*fanfare.Options{
	nil, nil,
	{Method: "GET", Raw: true, Headers: []fanfare.Header{{Name: "X-A", Value: "{event_id}"}}, CustomData: []byte(`{"a":"b"}`)},
	{Signature: []byte(`[{"scheme":"hmac-sha256","header":"X-S"}]`)},
	{Form: true, CustomData: []byte(`{"a":1}`)},
})

// change does one thing that the API can do.
func (w *world) change(t *rapid.T) {
	accounts, webhooks, keys := sorted(w.accounts), sorted(w.webhooks), sorted(w.keys)
	pick := func(ids []uuid.UUID) uuid.UUID { return rapid.SampledFrom(ids).Draw(t, "which") }
	parent := func() uuid.UUID { return pick(append([]uuid.UUID{uuid.Nil}, accounts...)) }
	switch what := rapid.IntRange(0, 10).Draw(t, "what"); {
	case what == 10 && len(accounts) > 0:
		id := pick(accounts)
		w.signing[id] = rapid.SampledFrom([]string{
			"", `[{"scheme":"standard"}]`, `[{"scheme":"hmac-sha512","header":"X-S"}]`, `[{"scheme":"rot13"}]`,
		}).Draw(t, "signature")
		w.changed.Accounts = append(w.changed.Accounts, id)
	case what == 0 || len(accounts) == 0:
		id := w.id()
		w.accounts[id] = parent()
		w.changed.Accounts = append(w.changed.Accounts, id)
	case what == 1: // move
		id, to := pick(accounts), parent()
		if !w.within(id, to) {
			w.accounts[id] = to
			w.changed.Accounts = append(w.changed.Accounts, id)
		}
	case what == 2: // delete with all that is below
		root := pick(accounts)
		var gone []uuid.UUID
		for id := range w.accounts {
			if w.within(root, id) {
				gone = append(gone, id)
			}
		}
		for _, id := range gone {
			delete(w.accounts, id)
			delete(w.signing, id)
		}
		maps.DeleteFunc(w.webhooks, func(_ uuid.UUID, h fanfare.Webhook) bool { return slices.Contains(gone, h.AccountID) })
		maps.DeleteFunc(w.keys, func(_ uuid.UUID, k store.RegistryKey) bool {
			return k.AccountID.Valid && slices.Contains(gone, k.AccountID.UUID)
		})
		w.changed.Accounts = append(w.changed.Accounts, gone...)
	case what == 3:
		name := someTypes.Draw(t, "type")
		if w.types[name] = (fanfare.EventType{
			Name: name, Archived: rapid.Bool().Draw(t, "archived"), Modifiers: someDeclarations.Draw(t, "modifiers"),
		}); rapid.IntRange(0, 3).Draw(t, "delete") == 0 {
			delete(w.types, name)
		}
		w.changed.EventTypes = append(w.changed.EventTypes, name)
	case what == 4:
		owner := parent()
		k := store.RegistryKey{Key: fanfare.Key{ID: w.id(), AccountID: uuid.NullUUID{UUID: owner, Valid: owner != uuid.Nil}}}
		copy(k.Hash[:], k.ID[:])
		w.keys[k.ID] = k
		w.changed.KeyOwners = append(w.changed.KeyOwners, owner)
	case what == 5 && len(keys) > 0:
		id := pick(keys)
		w.changed.KeyOwners = append(w.changed.KeyOwners, w.keys[id].AccountID.UUID)
		delete(w.keys, id)
	case what == 6 && len(webhooks) > 0:
		id := pick(webhooks)
		delete(w.webhooks, id)
		w.changed.Webhooks = append(w.changed.Webhooks, id)
	case what == 7 && len(webhooks) > 0:
		h := w.webhooks[pick(webhooks)]
		h.Version++
		h.EventTypes, h.IncludeSubaccounts = somePatterns.Draw(t, "patterns"), rapid.Bool().Draw(t, "subaccounts")
		h.Wishes, h.Options = drawWishes(t), someOptions.Draw(t, "options")
		w.webhooks[h.ID] = h
		w.changed.Webhooks = append(w.changed.Webhooks, h.ID)
	default:
		h := fanfare.Webhook{
			ID: w.id(), AccountID: pick(accounts), Version: 1, RetrySchedule: []time.Duration{time.Minute},
			EventTypes: somePatterns.Draw(t, "patterns"), IncludeSubaccounts: rapid.Bool().Draw(t, "subaccounts"),
			Wishes: drawWishes(t), Options: someOptions.Draw(t, "options"),
		}
		w.webhooks[h.ID] = h
		w.changed.Webhooks = append(w.changed.Webhooks, h.ID)
	}
}

// match is what Match ought to find, sorted.
func (w *world) match(account uuid.UUID, eventType string, data []byte) []string {
	var found []string
	if _, ok := w.accounts[account]; !ok {
		return nil
	}
	for id, h := range w.webhooks {
		if h.AccountID != account && !(h.IncludeSubaccounts && w.within(h.AccountID, account)) {
			continue
		}
		if slices.ContainsFunc(h.EventTypes, func(pattern string) bool {
			prefix, wild := strings.CutSuffix(pattern, "*")
			return pattern == eventType || wild && strings.HasPrefix(eventType, prefix) && (prefix != "" || eventType != "webhook.disabled")
		}) && w.wants(h, account, eventType, data) {
			found = append(found, fmt.Sprint(id, " v", h.Version))
		}
	}
	slices.Sort(found)
	return found
}

// dump is everything that a snapshot holds, in plain values.
func dump(s *Snapshot) map[string]any {
	accounts, hooks, keys, owners := map[string]any{}, map[string]any{}, map[string]any{}, map[string]any{}
	entries := func(ix index) (all []string) {
		for _, e := range ix {
			all = append(all, fmt.Sprint(e.key, " ", e.webhook.ID, " v", e.webhook.Version))
			if w, _ := s.webhooks.get(e.webhook.ID); w != e.webhook {
				all = append(all, "which is not the webhook of that id")
			}
		}
		return all
	}
	every(&s.accounts, func(id uuid.UUID, a *account) {
		var signing []string
		if a.signing != nil {
			signing = texts(a.signing.open)
		}
		accounts[id.String()] = []any{a.parent, entries(a.own), entries(a.inherited), selected(a.selection), signing, signed(s.Schemes(id))}
	})
	every(&s.webhooks, func(id uuid.UUID, w *Webhook) {
		var texts []string
		for _, secret := range w.open {
			texts = append(texts, secret.Text())
		}
		hooks[id.String()] = []any{w.Webhook, texts, w.expires, w.unreadable, wished(w.wishes), requested(w.request)}
	})
	every(&s.keys, func(hash [32]byte, k *fanfare.Key) { keys[fmt.Sprintf("%x", hash)] = *k })
	every(&s.keysOf, func(owner uuid.UUID, hashes [][32]byte) {
		var texts []string
		for _, hash := range hashes {
			texts = append(texts, fmt.Sprintf("%x", hash))
		}
		slices.Sort(texts)
		owners[owner.String()] = texts
	})
	types := map[string]any{}
	for name, t := range s.types {
		types[name] = []any{t.archived, t.modifiers, t.closed, t.Checked(), t.unchecked}
	}
	schemed := 0
	every(&s.accounts, func(_ uuid.UUID, a *account) {
		if a.schemes != nil {
			schemed++
		}
	})
	return map[string]any{
		"schemed":  s.schemed - schemed,
		"accounts": accounts, "webhooks": hooks, "keys": keys, "owners": owners, "types": types, "unreadable": s.unreadable,
		"counts": []int{s.accounts.len - len(accounts), s.webhooks.len - len(hooks), s.keys.len - len(keys), s.keysOf.len - len(owners)},
	}
}

func signed(schemes []signature.Scheme) string { return fmt.Sprintf("%+v", schemes) }

func requested(r *Request) string {
	if r == nil {
		return ""
	}
	return fmt.Sprint(r.Method, r.Shape != nil, r.Headers, signed(r.Schemes))
}

// wished is what webhooks want, but for their filter, which is only there or not.
func wished(w *wishes) string {
	if w == nil {
		return ""
	}
	return fmt.Sprint(w.filter != nil, w.modifiers)
}

// selected is what a selection holds, wherever it is found. It fails if the tables are not sound.
func selected(s *selection) (all []string) {
	if s == nil {
		return nil
	}
	var own, inherited []row
	steps, asked := 0, 0
	dims := make(map[dim]int)
	for c := range s.choosers {
		rows := c.rows(nil)
		all = append(all, fmt.Sprint(c.webhook.ID, " v", c.webhook.Version, " ", len(c.places), c.webhook.IncludeSubaccounts))
		own = append(own, rows...)
		if c.webhook.IncludeSubaccounts {
			inherited = append(inherited, rows...)
		}
		steps += c.steps()
		asked += c.asked()
		if c.webhook.wishes.findable(c.webhook.EventTypes) == (c.dim == dim{}) {
			all = append(all, fmt.Sprint("it is not known that it is found by ", c.dim))
		}
		if (c.dim != dim{}) {
			dims[c.dim]++
		}
	}
	for _, d := range s.dims {
		if dims[d.dim] != d.webhooks || d.webhooks == 0 {
			all = append(all, fmt.Sprint("a dimension counts ", d, ", it has ", dims[d.dim]))
		}
	}
	if len(dims) != len(s.dims) || s.steps != steps || s.asked != asked || s.paths.Len() > spareSteps+spareRatio*steps+steps {
		all = append(all, fmt.Sprint("dimensions ", len(dims), " ", len(s.dims), ", steps ", steps, " ", s.steps, ", asked ", asked, " ", s.asked, ", paths ", s.paths.Len()))
	}
	for _, t := range []struct {
		table *table
		want  []row
	}{{&s.own, own}, {&s.inherited, inherited}} {
		var got []row
		for _, part := range t.table.parts {
			got = append(got, part...)
		}
		slices.SortFunc(t.want, row.compare)
		if !slices.Equal(got, t.want) || len(got) != t.table.len {
			all = append(all, "the table is not what its webhooks say")
		}
		for _, r := range t.want {
			if !slices.Contains(t.table.find(r.hash), r) {
				all = append(all, "a row is not found")
			}
		}
	}
	slices.Sort(all)
	return all
}

func every[K ~[16]byte | ~[32]byte, V any](s *shards[K, V], do func(K, V)) {
	if s.maps == nil {
		return
	}
	for _, m := range s.maps {
		for k, v := range m {
			do(k, v)
		}
	}
}

func noSecrets(uuid.UUID, error) {}

func loaded(w *world) *Snapshot {
	u := newUpdate(new(Snapshot), nil, noSecrets)
	w.tell(u, true)
	return u.done(1)
}

func TestUpdatesGiveWhatALoadGivesAndLeaveOldSnapshotsAlone(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w, current := newWorld(), new(Snapshot)
		for range rapid.IntRange(1, 8).Draw(t, "updates") {
			w.changed = store.Changed{}
			for range rapid.IntRange(1, 12).Draw(t, "changes") {
				w.change(t)
			}
			before, old := dump(current), current

			u := newUpdate(current, nil, noSecrets)
			w.tell(u, false)
			current = u.done(1)

			if diff := cmp.Diff(dump(loaded(w)), dump(current)); diff != "" {
				t.Fatalf("an update differs from a load: %s", diff)
			}
			if diff := cmp.Diff(before, dump(old)); diff != "" {
				t.Fatalf("an update changed the snapshot before it: %s", diff)
			}
		}
	})
}

func TestMatchFindsWhatANaiveScanFinds(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := newWorld()
		for range rapid.IntRange(1, 60).Draw(t, "changes") {
			w.change(t)
		}
		s := loaded(w)
		for _, account := range append(sorted(w.accounts), uuid.Nil, uuid.Max) {
			for range 3 {
				eventType, data := someTypes.Draw(t, "event type"), someData.Draw(t, "data")
				var got []string
				for _, hook := range s.Match(nil, account, eventType, data) {
					got = append(got, fmt.Sprint(hook.ID, " v", hook.Version))
				}
				slices.Sort(got)
				if diff := cmp.Diff(w.match(account, eventType, data), got); diff != "" {
					t.Fatalf("%s %s in %s: %s", eventType, data, account, diff)
				}
			}
		}
	})
}

func TestTheTreeIsWhatTheAccountsSay(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := newWorld()
		for range rapid.IntRange(1, 30).Draw(t, "changes") {
			w.change(t)
		}
		s := loaded(w)
		accounts := append(sorted(w.accounts), uuid.Max)
		for _, account := range accounts {
			var line []uuid.UUID
			if _, ok := w.accounts[account]; ok {
				for id := account; id != uuid.Nil; id = w.accounts[id] {
					line = append(line, id)
				}
				line = append(line, uuid.Nil)
			}
			if diff := cmp.Diff(line, s.Lineage(account)); diff != "" {
				t.Fatal(diff)
			}
			if s.Account(account) != (line != nil) {
				t.Fatalf("account %s: known %v", account, s.Account(account))
			}
			for _, root := range append(accounts, uuid.Nil) {
				if got, want := s.Within(root, account), slices.Contains(line, root); got != want {
					t.Fatalf("%s within %s: %v", account, root, got)
				}
			}
		}
	})
	if new(Snapshot).Account(uuid.Nil) || new(Snapshot).Lineage(uuid.Nil) != nil || new(Snapshot).Within(uuid.Nil, uuid.Nil) {
		t.Error("the platform passes for an account")
	}
}

func TestAppendedMatchesLeaveWhatWasThere(t *testing.T) {
	w := newWorld()
	account := w.id()
	w.accounts[account] = uuid.Nil
	h := fanfare.Webhook{ID: w.id(), AccountID: account, EventTypes: []string{"*", "a.*", "a.b"}}
	w.webhooks[h.ID] = h
	first := new(Webhook)
	got := loaded(w).Match([]*Webhook{first}, account, "a.b", nil)
	if len(got) != 2 || got[0] != first || got[1].ID != h.ID {
		t.Errorf("got %v", got)
	}
}

func testKeyring(t testing.TB, id string) *seal.Keyring {
	t.Helper()
	text, err := seal.Generate(id)
	if err != nil {
		t.Fatal(err)
	}
	ring, err := seal.Parse(text)
	if err != nil {
		t.Fatal(err)
	}
	return ring
}
