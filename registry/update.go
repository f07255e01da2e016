package registry

import (
	"encoding/binary"
	"errors"
	"maps"
	"slices"
	"time"

	"github.com/google/uuid"

	"github.com/fanfare-webhooks/fanfare"
	"github.com/fanfare-webhooks/fanfare/internal/seal"
	"github.com/fanfare-webhooks/fanfare/internal/store"
	"github.com/fanfare-webhooks/fanfare/retry"
	"github.com/fanfare-webhooks/fanfare/signature"
)

// Parts of the places that secrets are sealed for: a webhook's with its account and id, an account's own with
// the account and the secret's id.
const (
	secretColumn  = "webhook_secrets.sealed"
	signingColumn = "signing_secrets.sealed"
)

// update makes a snapshot out of another one and what is read from the store. It is a
// [store.RegistrySink].
type update struct {
	base    *Snapshot
	keyring *seal.Keyring
	closed  func(webhook uuid.UUID, err error) // a secret, or the value of a header, does not open

	accounts   draft[uuid.UUID, *account]
	webhooks   draft[uuid.UUID, *Webhook]
	keys       draft[[32]byte, *fanfare.Key]
	keysOf     draft[uuid.UUID, [][32]byte]
	types      map[string]*EventType // shared with the base until typesMine
	typesMine  bool
	schemed    int
	unreadable int

	unusable    map[uuid.UUID]error // webhooks whose wishes or options cannot be read
	unsigned    map[uuid.UUID]error // accounts whose signature schemes cannot be read
	closedTypes map[string]error    // event types whose modifiers cannot be read
	mute        map[uuid.UUID]error // accounts a signing secret of which does not open
	unchecked   map[string]error    // event types whose schema cannot be read

	awaited map[uuid.UUID]bool  // accounts that changed and did not come again yet
	edits   map[uuid.UUID]*edit // what happens to the indexes, by account
	names   interner
}

// edit is what happens to the index of one account.
type edit struct {
	gone  map[uuid.UUID]bool
	added []*Webhook
}

func newUpdate(base *Snapshot, keyring *seal.Keyring, closed func(uuid.UUID, error)) *update {
	return &update{
		base:        base,
		keyring:     keyring,
		closed:      closed,
		accounts:    base.accounts.draft(),
		webhooks:    base.webhooks.draft(),
		keys:        base.keys.draft(),
		keysOf:      base.keysOf.draft(),
		types:       base.types,
		schemed:     base.schemed,
		unreadable:  base.unreadable,
		unusable:    make(map[uuid.UUID]error),
		unsigned:    make(map[uuid.UUID]error),
		closedTypes: make(map[string]error),
		mute:        make(map[uuid.UUID]error),
		unchecked:   make(map[string]error),
		awaited:     make(map[uuid.UUID]bool),
		edits:       make(map[uuid.UUID]*edit),
		names:       newInterner(),
	}
}

// Changed implements [store.RegistrySink]: what changed is forgotten. What still exists comes again; an
// account keeps what belongs to it until it is clear that it does not.
func (u *update) Changed(c store.Changed) {
	for _, name := range c.EventTypes {
		u.ownTypes()
		delete(u.types, name)
	}
	for _, owner := range c.KeyOwners {
		u.forgetKeys(owner)
	}
	for _, id := range c.Webhooks {
		u.forgetWebhook(id)
	}
	for _, id := range c.Accounts {
		u.awaited[id] = true
	}
}

// Account implements [store.RegistrySink].
func (u *update) Account(a store.RegistryAccount) {
	delete(u.awaited, a.ID)
	next := &account{parent: a.ParentID}
	if before, ok := u.accounts.get(a.ID); ok {
		next.own, next.inherited, next.selection = before.own, before.inherited, before.selection
		u.unsign(before)
	}
	var err error
	if next.schemes, err = u.names.schemed(a.Signature); err != nil {
		u.unsigned[a.ID] = err
	}
	if next.schemes != nil {
		u.schemed++
	}
	if len(a.Health) > 0 {
		// One that this version cannot read changes nothing: a webhook is rather judged by what is above.
		if o, err := retry.ParseHealthOverride(a.Health); err == nil {
			next.health = &o
		}
	}
	u.accounts.set(a.ID, next)
}

// unsign is told of each account that goes.
func (u *update) unsign(a *account) {
	if a.schemes != nil {
		u.schemed--
	}
}

// EventType implements [store.RegistrySink].
func (u *update) EventType(t fanfare.EventType) {
	u.ownTypes()
	e, closed, unchecked := newEventType(&t)
	if closed != nil {
		u.closedTypes[t.Name] = closed
	}
	if unchecked != nil {
		u.unchecked[t.Name] = unchecked
	}
	u.types[t.Name] = e
}

// Key implements [store.RegistrySink].
func (u *update) Key(k store.RegistryKey) {
	owner := k.AccountID.UUID
	u.keys.set(k.Hash, &k.Key)
	hashes, _ := u.keysOf.get(owner)
	u.keysOf.set(owner, append(slices.Clip(hashes), k.Hash))
}

// Webhook implements [store.RegistrySink].
func (u *update) Webhook(w fanfare.Webhook) {
	if _, ok := u.accounts.get(w.AccountID); !ok { // its account was deleted, and the webhook with it
		return
	}
	w.EventTypes = u.names.list(w.EventTypes)
	w.RetrySchedule = u.names.schedule(w.RetrySchedule)
	next := &Webhook{Webhook: w}
	u.takeWishes(next)
	u.takeOptions(next)
	u.webhooks.set(w.ID, next)
	e := u.edit(w.AccountID)
	e.added = append(e.added, next)
}

// takeWishes puts what a webhook wants of events into the form that is matched. If that cannot be read
// the webhook is kept, and counts as disabled: what it misses is recorded, with the reason.
func (u *update) takeWishes(w *Webhook) {
	if w.Wishes == nil {
		return
	}
	var err error
	if w.wishes, err = u.names.wished(&w.Webhook); err != nil {
		u.refuse(w, err)
	}
	w.Wishes = nil
}

// errNoRoom is that the filters of an account look at too many places together. The API refuses what would
// come to that; what came at the same time from many may still do.
var errNoRoom = errors.New("the filters of the account look at too many places")

// refuse makes a webhook that this update has made count as disabled, until it is changed.
func (u *update) refuse(w *Webhook, err error) {
	u.unusable[w.ID] = err
	if w.Disabled == nil {
		w.Disabled = unusable(&w.Webhook, err)
	}
}

// Secret implements [store.RegistrySink].
func (u *update) Secret(s store.RegistrySecret) {
	w, ok := u.webhooks.get(s.WebhookID)
	if !ok || w.unreadable && len(w.open) == 0 {
		return // older ones do not stand in for the current one
	}
	key, err := u.keyring.Open(seal.Place{Account: w.AccountID, Object: w.ID, Column: secretColumn}, s.Sealed)
	if err != nil {
		u.cannotOpen(w, err)
		return
	}
	w.add(signature.SecretFromStored(key), s.ExpiresAt)
}

// SigningSecret implements [store.RegistrySink]. Its account came before it in this update, without secrets.
func (u *update) SigningSecret(s store.RegistrySigningSecret) {
	a, ok := u.accounts.get(s.AccountID)
	if !ok {
		return
	}
	if a.signing == nil {
		a.signing = new(secrets)
	}
	if a.signing.unreadable && len(a.signing.open) == 0 {
		return // older ones do not stand in for the current one
	}
	key, err := u.keyring.Open(seal.Place{Account: s.AccountID, Object: s.ID, Column: signingColumn}, s.Sealed)
	if err != nil {
		a.signing.unreadable = true
		u.mute[s.AccountID] = err
		return
	}
	a.signing.add(signature.SecretFromStored(key), s.ExpiresAt)
}

// cannotOpen notes that a secret of a webhook does not open.
func (u *update) cannotOpen(w *Webhook, err error) {
	if !w.unreadable {
		w.unreadable = true
		u.unreadable++
		u.closed(w.ID, err)
	}
}

func (u *update) forgetKeys(owner uuid.UUID) {
	hashes, _ := u.keysOf.get(owner)
	for _, hash := range hashes {
		u.keys.delete(hash)
	}
	u.keysOf.delete(owner)
}

func (u *update) forgetWebhook(id uuid.UUID) {
	w, ok := u.webhooks.get(id)
	if !ok {
		return
	}
	if w.unreadable {
		u.unreadable--
	}
	u.webhooks.delete(id)
	e := u.edit(w.AccountID)
	if e.gone == nil {
		e.gone = make(map[uuid.UUID]bool)
	}
	e.gone[id] = true
}

func (u *update) forgetAccount(id uuid.UUID) {
	a, ok := u.accounts.get(id)
	if !ok {
		return
	}
	for _, entry := range a.own {
		u.forgetWebhook(entry.webhook.ID)
	}
	for c := range a.selection.choosers {
		u.forgetWebhook(c.webhook.ID)
	}
	u.forgetKeys(id)
	u.unsign(a)
	u.accounts.delete(id)
}

func (u *update) edit(account uuid.UUID) *edit {
	e, ok := u.edits[account]
	if !ok {
		e = new(edit)
		u.edits[account] = e
	}
	return e
}

func (u *update) ownTypes() {
	if !u.typesMine {
		u.typesMine = true
		if u.types = maps.Clone(u.types); u.types == nil {
			u.types = make(map[string]*EventType)
		}
	}
}

// done is the new snapshot. The update must not be used any more.
func (u *update) done(version int64) *Snapshot {
	for id := range u.awaited {
		u.forgetAccount(id)
	}
	for id, e := range u.edits {
		before, ok := u.accounts.get(id)
		if !ok {
			continue
		}
		var choosy []*Webhook
		for _, w := range e.added {
			if w.wishes != nil {
				choosy = append(choosy, w)
			}
		}
		selection, over := before.selection.edit(e.gone, choosy)
		for _, w := range over {
			w.wishes = nil
			u.refuse(w, errNoRoom)
		}
		var own, inherited index
		for _, w := range e.added {
			if w.wishes != nil {
				continue
			}
			for _, key := range patternKeys(w.EventTypes) {
				key = u.names.text(key)
				own = append(own, entry{key, w})
				if w.IncludeSubaccounts {
					inherited = append(inherited, entry{key, w})
				}
			}
		}
		gone := func(w *Webhook) bool { return e.gone[w.ID] }
		next := *before
		next.own, next.inherited = before.own.replace(gone, own), before.inherited.replace(gone, inherited)
		next.selection = selection
		u.accounts.set(id, &next)
	}
	return &Snapshot{
		version:    version,
		accounts:   u.accounts.done(),
		webhooks:   u.webhooks.done(),
		keys:       u.keys.done(),
		keysOf:     u.keysOf.done(),
		types:      u.types,
		schemed:    u.schemed,
		unreadable: u.unreadable,
		unchecked:  u.countUnchecked(),
	}
}

// countUnchecked is how many event types have a schema that cannot be read.
func (u *update) countUnchecked() int {
	if !u.typesMine {
		return u.base.unchecked
	}
	n := 0
	for _, t := range u.types {
		if t.unchecked {
			n++
		}
	}
	return n
}

// interner keeps one copy of what many webhooks have in common. It lives as long as one update.
type interner struct {
	texts     map[string]string
	lists     map[string][]string
	schedules map[string][]time.Duration
	wishes    map[string]*wishes
	schemes   map[string]*schemes
	buf       []byte
}

func newInterner() interner {
	return interner{
		texts: make(map[string]string), lists: make(map[string][]string), schedules: make(map[string][]time.Duration),
		wishes: make(map[string]*wishes), schemes: make(map[string]*schemes),
	}
}

func (in *interner) text(s string) string {
	if one, ok := in.texts[s]; ok {
		return one
	}
	in.texts[s] = s
	return s
}

func (in *interner) list(l []string) []string {
	in.buf = in.buf[:0]
	for _, s := range l {
		in.buf = append(append(in.buf, s...), 0)
	}
	if one, ok := in.lists[string(in.buf)]; ok {
		return one
	}
	one := make([]string, len(l))
	for i, s := range l {
		one[i] = in.text(s)
	}
	in.lists[string(in.buf)] = one
	return one
}

// wished reads what a webhook wants of events; it has wishes.
func (in *interner) wished(w *fanfare.Webhook) (*wishes, error) {
	in.buf = append(append(append(in.buf[:0], w.Wishes.Canonical...), 0), w.Wishes.Modifiers...)
	if one, ok := in.wishes[string(in.buf)]; ok {
		return one, nil
	}
	one, err := readWishes(w)
	if err == nil {
		in.wishes[string(in.buf)] = one
	}
	return one, err
}

// schemed reads how an account has its webhooks signed; nil: it does not say.
func (in *interner) schemed(stored []byte) (*schemes, error) {
	if one, ok := in.schemes[string(stored)]; ok {
		return one, nil
	}
	list, err := readSchemes(stored)
	if err != nil || list == nil {
		return nil, err
	}
	one := &schemes{list}
	in.schemes[string(stored)] = one
	return one, nil
}

func (in *interner) schedule(l []time.Duration) []time.Duration {
	in.buf = in.buf[:0]
	for _, d := range l {
		in.buf = binary.BigEndian.AppendUint64(in.buf, uint64(d))
	}
	if one, ok := in.schedules[string(in.buf)]; ok {
		return one
	}
	in.schedules[string(in.buf)] = l
	return l
}
