package dispatcher

import (
	"bytes"
	"cmp"
	"errors"
	"slices"
	"time"

	"github.com/google/uuid"

	"github.com/fanfare-webhooks/fanfare"
	"github.com/fanfare-webhooks/fanfare/internal/store"
	"github.com/fanfare-webhooks/fanfare/internal/weaken"
)

// database models what Postgres and the statements of internal/store guarantee, not how. A transaction
// happens at one instant. One that does not wait for the disk can be lost in a crash, with all that were
// committed after it and did not wait either.
type database struct {
	rules *rules
	ahead time.Duration // its clock minus everybody else's
	pos   fanfare.Position

	events   []*fanfare.Event          // in the log's order
	oneOffs  map[uuid.UUID][]uuid.UUID // what stands for one-off destinations, by event
	groupOf  map[uuid.UUID]uuid.UUID
	keys     map[store.KeyRef]store.FirstAnswer
	groups   map[uuid.UUID]groupRow
	retries  map[store.RetryRef]retryRow
	attempts map[store.RetryRef][]*fanfare.Attempt
	ended    map[store.RetryRef]uuid.UUID // by which attempt of its rightful owner
	nodes    map[uuid.UUID]nodeRow

	parents map[uuid.UUID]uuid.UUID // of accounts; nil: the platform
	raised  map[uuid.UUID]int64     // registry_version, by account
	hooks   []*hookRow
	changes []hookChange

	tail   []*transaction                // committed, and not known to be on disk; the oldest first
	refuse func(ref store.RetryRef) bool // Postgres does not take the text of these deliveries' attempts
}

type groupRow struct {
	store.OpenGroup
	owner uuid.UUID
}

type retryRow struct {
	store.Retry
	owner uuid.UUID // nil: free
}

type nodeRow struct {
	until   time.Time // by the database's clock
	granted time.Time // by everybody else's
	dead    bool
}

type hookRow struct {
	fanfare.Webhook
	sealed    []byte
	deleted   bool
	changedAt time.Time // by everybody else's clock
}

type hookChange struct {
	version int64
	at      time.Time
	hook    uuid.UUID
}

// eventTypes is the catalog.
var eventTypes = []string{"call.started", "call.ended"}

func newDatabase(r *rules) *database {
	return &database{
		rules:    r,
		oneOffs:  make(map[uuid.UUID][]uuid.UUID),
		groupOf:  make(map[uuid.UUID]uuid.UUID),
		keys:     make(map[store.KeyRef]store.FirstAnswer),
		groups:   make(map[uuid.UUID]groupRow),
		retries:  make(map[store.RetryRef]retryRow),
		attempts: make(map[store.RetryRef][]*fanfare.Attempt),
		ended:    make(map[store.RetryRef]uuid.UUID),
		nodes:    make(map[uuid.UUID]nodeRow),
		parents:  make(map[uuid.UUID]uuid.UUID),
		raised:   make(map[uuid.UUID]int64),
		refuse:   func(store.RetryRef) bool { return false },
	}
}

// now is clock_timestamp(), to the microsecond.
func (db *database) now() time.Time { return time.Now().Add(db.ahead).Truncate(time.Microsecond).UTC() }

// transaction is the way back from what was done.
type transaction struct {
	at   time.Time
	undo []func()
}

func put[K comparable, V any](t *transaction, m map[K]V, k K, v V) {
	before, had := m[k]
	t.undo = append(t.undo, func() {
		if delete(m, k); had {
			m[k] = before
		}
	})
	m[k] = v
}

func remove[K comparable, V any](t *transaction, m map[K]V, k K) {
	if before, had := m[k]; had {
		t.undo = append(t.undo, func() { m[k] = before })
		delete(m, k)
	}
}

func (t *transaction) rollback() {
	for _, undo := range slices.Backward(t.undo) {
		undo()
	}
}

// flush is the end of a transaction that waits for the disk: it takes all before it along.
func (db *database) flush() { db.tail = nil }

// onDisk is how soon the disk has what did not wait for it.
const onDisk = 600 * time.Millisecond

// crash keeps a share of the transactions that may not be on disk, and answers how many are lost.
func (db *database) crash(kept float64) (lost int) {
	for len(db.tail) > 0 && time.Since(db.tail[0].at) > onDisk {
		db.tail = db.tail[1:]
	}
	keep := int(kept * float64(len(db.tail)+1))
	for _, t := range slices.Backward(db.tail[keep:]) {
		t.rollback()
		lost++
	}
	db.tail = nil
	return lost
}

func (db *database) ingest(g *store.Group) (*store.Committed, error) {
	node := db.nodes[g.Node]
	c := &store.Committed{Alive: !node.dead && node.until.After(db.now())}
	for _, a := range g.Accounts {
		if db.raised[a] > g.RegistryVersion {
			c.Stale = append(c.Stale, a)
		}
	}
	if !c.Alive || len(c.Stale) > 0 {
		return c, nil
	}
	n := fanfare.Position(len(g.Events))
	db.pos++ // whatever follows, as a sequence does
	base := max(db.pos, fanfare.PositionAt(db.now()), g.Floor)
	if c.Beyond = base+n >= g.Ceiling; c.Beyond {
		return c, nil
	}
	c.Base, db.pos = base, base+n
	c.Inserted = make([]bool, n)
	owes := false
	for i := range g.Events {
		e := &g.Events[i]
		id, key := c.ID(g, i), store.KeyRef{AccountID: e.AccountID, Key: e.Key}
		owes = owes || len(e.WebhookIDs)+len(e.DestinationIDs) > 0
		if _, known := db.keys[key]; known {
			continue
		}
		if c.Inserted[i] = true; e.Key != "" {
			db.keys[key] = store.FirstAnswer{EventID: id, Hash: e.Hash, Matched: e.Matched}
		}
		db.events = append(db.events, &fanfare.Event{
			ID: id, AccountID: e.AccountID, Type: e.Type, Data: e.Data, OccurredAt: e.OccurredAt, IdempotencyKey: e.Key,
			WebhookIDs: slices.Clone(e.WebhookIDs), Matched: e.Matched, Test: e.Test, Destinations: e.Destinations,
		})
		db.oneOffs[id] = slices.Clone(e.DestinationIDs)
		db.groupOf[id] = g.ID
		db.rules.committed(db.events[len(db.events)-1])
	}
	if owes {
		db.groups[g.ID] = groupRow{store.OpenGroup{ID: g.ID, First: c.ID(g, 0), Last: c.ID(g, len(g.Events)-1)}, g.Node}
	}
	db.flush()
	return c, nil
}

func (db *database) firstAnswers(keys []store.KeyRef) map[store.KeyRef]store.FirstAnswer {
	found := make(map[store.KeyRef]store.FirstAnswer)
	for _, k := range keys {
		if a, ok := db.keys[k]; ok {
			found[k] = a
		}
	}
	return found
}

// between are the events from first to last.
func (db *database) between(first, last uuid.UUID) []*fanfare.Event {
	byID := func(e *fanfare.Event, id uuid.UUID) int { return bytes.Compare(e.ID[:], id[:]) }
	from, _ := slices.BinarySearchFunc(db.events, first, byID)
	to, found := slices.BinarySearchFunc(db.events, last, byID)
	if found {
		to++
	}
	return db.events[from:to]
}

// owedPair is a delivery that an event makes.
type owedPair struct {
	ref         store.RetryRef
	account     uuid.UUID
	destination int
}

func (db *database) pairs(e *fanfare.Event) (all []owedPair) {
	for _, w := range e.WebhookIDs {
		all = append(all, owedPair{store.RetryRef{WebhookID: w, EventID: e.ID}, db.hook(w).AccountID, 0})
	}
	for i, id := range db.oneOffs[e.ID] {
		all = append(all, owedPair{store.RetryRef{WebhookID: id, EventID: e.ID}, e.AccountID, i + 1})
	}
	return all
}

func (db *database) event(id uuid.UUID) *fanfare.Event {
	if found := db.between(id, id); len(found) > 0 {
		return found[0]
	}
	return nil
}

// errRefused: Postgres does not take a row of the lot.
var errRefused = errors.New("a row is refused")

// record is one transaction of the recorder. It does not wait for the disk.
func (db *database) record(lot *store.Lot) error {
	for i := range lot.Outcomes {
		if a := lot.Outcomes[i].Attempt; a != nil && a.URL != "" && db.refuse(lot.Outcomes[i].Ref()) {
			return errRefused
		}
	}
	var (
		t     = &transaction{at: time.Now()}
		owned = func(owner uuid.UUID) bool { return owner == lot.Owner || weaken.Off(weaken.Fence) }
		mine  = make([]bool, len(lot.Outcomes))
	)
	for i := range lot.Outcomes {
		o := &lot.Outcomes[i]
		if g, open := db.groups[o.Group]; o.Group != uuid.Nil {
			mine[i] = open && owned(g.owner) && owned(o.Owner)
		} else if r, there := db.retries[o.Ref()]; there {
			mine[i] = owned(r.owner) && owned(o.Owner) && (r.DueAt.Equal(o.Due) || weaken.Off(weaken.Fence))
		}
		db.insertAttempt(t, o.Attempt, mine[i])
	}
	for i := range lot.Outcomes {
		o, ref := &lot.Outcomes[i], lot.Outcomes[i].Ref()
		_, there := db.retries[ref]
		switch {
		case !mine[i]:
		case o.Retry == nil && o.Group == uuid.Nil:
			remove(t, db.retries, ref)
		case o.Retry == nil || o.Group != uuid.Nil && (there || db.endedAfter(ref, o.Attempt)):
		default:
			put(t, db.retries, ref, retryRow{Retry: *o.Retry})
		}
	}
	touched := make(map[store.RetryRef]bool)
	for i := range lot.Outcomes {
		touched[lot.Outcomes[i].Ref()] = true
	}
	for _, id := range lot.Settled {
		g, open := db.groups[id]
		if !open || !owned(g.owner) {
			continue
		}
		remove(t, db.groups, id)
		for _, e := range db.between(g.First, g.Last) {
			for _, p := range db.pairs(e) {
				touched[p.ref] = true
			}
		}
	}
	db.tail = append(db.tail, t)
	for ref := range touched {
		db.rules.accounted(ref)
	}
	return nil
}

// insertAttempt writes an attempt once, and nothing that confuses webhooks with one-off destinations. If it is its delivery's owner who says that this has ended, nobody
// else may have said so.
func (db *database) insertAttempt(t *transaction, a *fanfare.Attempt, mine bool) {
	if a == nil {
		return
	}
	ref := store.RetryRef{WebhookID: a.WebhookID, EventID: a.EventID}
	if slices.ContainsFunc(db.attempts[ref], func(b *fanfare.Attempt) bool { return a.ID == b.ID }) {
		return
	}
	if oneOff := db.oneOffs[a.EventID]; a.Destination > len(oneOff) || slices.Index(oneOff, a.WebhookID)+1 != a.Destination {
		db.rules.broke("an attempt of %v to %v says that it is for destination %d", a.EventID, a.WebhookID, a.Destination)
	}
	put(t, db.attempts, ref, append(slices.Clip(db.attempts[ref]), a))
	db.rules.recorded(t, a)
	if !mine {
		db.rules.w.reach("an outcome that came too late")
		return
	}
	if a.State != fanfare.Pending {
		if _, again := db.ended[ref]; again {
			db.rules.broke("%v to %v ended twice, at last as %s", a.EventID, a.WebhookID, a.State)
		}
		put(t, db.ended, ref, a.ID)
	}
}

func (db *database) hasEnded(ref store.RetryRef) bool { return db.endedAfter(ref, nil) }

// endedAfter says whether a delivery was delivered, or ended after an attempt; nil: at any time.
func (db *database) endedAfter(ref store.RetryRef, last *fanfare.Attempt) bool {
	return slices.ContainsFunc(db.attempts[ref], func(a *fanfare.Attempt) bool {
		return a.State == fanfare.Delivered || a.State != fanfare.Pending && (last == nil || bytes.Compare(a.ID[:], last.ID[:]) > 0)
	})
}

// state is a delivery's as docs/states.md reads it from the rows; "" if there is none.
func (db *database) state(ref store.RetryRef) fanfare.State {
	var last *fanfare.Attempt // that ended it
	for _, a := range db.attempts[ref] {
		if a.State == fanfare.Delivered {
			return fanfare.Delivered
		}
		if a.State != fanfare.Pending && (last == nil || bytes.Compare(a.ID[:], last.ID[:]) > 0) {
			last = a
		}
	}
	_, owed := db.retries[ref]
	_, open := db.groups[db.groupOf[ref.EventID]]
	switch {
	case owed, last == nil && open:
		return fanfare.Pending
	case last != nil:
		return last.State
	}
	return "" // nothing would ever go on with it
}

func (db *database) claim(node uuid.UUID, wants []store.Want) (claimed []store.Retry, next map[uuid.UUID]time.Time) {
	for _, want := range wants {
		if want.DueBy.IsZero() {
			want.DueBy = db.now()
		}
		for _, r := range db.free(want.WebhookID) {
			if want.Room == 0 || r.DueAt.After(want.DueBy) || db.orphaned(node) {
				break
			}
			want.Room--
			claimed = append(claimed, r)
			if r.Destination > 0 {
				db.rules.w.reach("a retry to a one-off destination")
			}
			db.retries[store.RetryRef{WebhookID: r.WebhookID, EventID: r.EventID}] = retryRow{r, node}
		}
	}
	db.flush()
	slices.SortStableFunc(claimed, func(a, b store.Retry) int { return a.DueAt.Compare(b.DueAt) })
	next = make(map[uuid.UUID]time.Time)
	for _, want := range wants {
		if free := db.free(want.WebhookID); len(free) > 0 {
			next[want.WebhookID] = free[0].DueAt
		}
	}
	return claimed, next
}

// free are a webhook's free retries by their due times.
func (db *database) free(webhook uuid.UUID) (free []store.Retry) {
	for ref, r := range db.retries {
		if ref.WebhookID == webhook && r.owner == uuid.Nil {
			free = append(free, r.Retry)
		}
	}
	slices.SortFunc(free, func(a, b store.Retry) int {
		return cmp.Or(a.DueAt.Compare(b.DueAt), bytes.Compare(a.EventID[:], b.EventID[:]))
	})
	return free
}

func (db *database) dueWebhooks() map[uuid.UUID]time.Time {
	due := make(map[uuid.UUID]time.Time)
	for ref, r := range db.retries {
		if at, ok := due[ref.WebhookID]; r.owner == uuid.Nil && (!ok || r.DueAt.Before(at)) {
			due[ref.WebhookID] = r.DueAt
		}
	}
	return due
}

func (db *database) eventsByID(ids []uuid.UUID, maxBytes int64) map[uuid.UUID]*fanfare.Event {
	found := make(map[uuid.UUID]*fanfare.Event)
	ids = slices.Clone(ids)
	slices.SortFunc(ids, func(a, b uuid.UUID) int { return bytes.Compare(a[:], b[:]) })
	for _, id := range slices.Compact(ids) {
		if e := db.event(id); e != nil {
			read := *e
			if maxBytes -= int64(len(e.Data) + len(e.Destinations)); maxBytes < 0 {
				read.Data, read.Destinations = nil, nil
			}
			found[id] = &read
		}
	}
	return found
}

func (db *database) join(id uuid.UUID, term time.Duration) {
	db.nodes[id] = nodeRow{until: db.now().Add(term), granted: time.Now()}
	db.flush()
}

func (db *database) renew(id uuid.UUID, term time.Duration) (l store.Lease, err error) {
	n, there := db.nodes[id]
	if !there || n.dead {
		return l, store.ErrDead
	}
	l.Now = db.now()
	for other, n := range db.nodes {
		if !n.dead && (n.until.After(l.Now) || other == id) {
			l.Live++
		}
	}
	n.until, n.granted = l.Now.Add(term), time.Now()
	db.nodes[id] = n
	db.flush()
	return l, nil
}

func (db *database) markDead(me uuid.UUID, term time.Duration) (dead []uuid.UUID) {
	if own := db.nodes[me].until.Sub(db.now()); (own - term).Abs() > term/5 {
		return nil
	}
	for id, n := range db.nodes {
		if left := n.until.Sub(db.now()); id != me && !n.dead && (left < 0 || left > 2*term) {
			n.dead = true
			db.nodes[id] = n
			dead = append(dead, id)
			db.rules.died(id)
		}
	}
	if len(dead) > 0 {
		db.flush()
	}
	return dead
}

func (db *database) leave(id uuid.UUID) {
	delete(db.nodes, id)
	db.flush()
}

// orphaned says whether an owner is dead or has left.
func (db *database) orphaned(owner uuid.UUID) bool {
	n, there := db.nodes[owner]
	return owner != uuid.Nil && (!there || n.dead)
}

func (db *database) takeGroups(me uuid.UUID, limit int, wanted func(groupRow) bool) (taken []store.OpenGroup) {
	for _, g := range db.groups {
		if wanted(g) {
			taken = append(taken, g.OpenGroup)
		}
	}
	slices.SortFunc(taken, func(a, b store.OpenGroup) int { return bytes.Compare(a.First[:], b.First[:]) })
	taken = taken[:min(limit, len(taken))]
	for i := range taken {
		taken[i].Takeovers++
		db.groups[taken[i].ID] = groupRow{taken[i], me}
	}
	if len(taken) > 0 {
		db.flush()
	}
	return taken
}

func (db *database) owed(g store.OpenGroup) (owed []store.Owed) {
	for _, e := range db.between(g.First, g.Last) {
		read := *e
		for _, p := range db.pairs(e) {
			ref := p.ref
			if _, waits := db.retries[ref]; waits || db.hasEnded(ref) {
				continue
			}
			number := 0
			for _, a := range db.attempts[ref] {
				number = max(number, a.Number)
			}
			if p.destination > 0 {
				db.rules.w.reach("a one-off destination that a group still owed")
			}
			owed = append(owed, store.Owed{
				Event: &read, WebhookID: ref.WebhookID, AccountID: p.account, Number: number, Destination: p.destination,
			})
		}
	}
	return owed
}

func (db *database) mine(me uuid.UUID) (m store.Mine) {
	for id, g := range db.groups {
		if g.owner == me {
			m.Groups = append(m.Groups, id)
		}
	}
	for ref, r := range db.retries {
		if r.owner == me {
			m.Retries = append(m.Retries, ref)
		}
	}
	return m
}

func (db *database) freeRetries(me uuid.UUID, refs []store.RetryRef) {
	for _, ref := range refs {
		if r, there := db.retries[ref]; there && r.owner == me {
			r.owner = uuid.Nil
			db.retries[ref] = r
		}
	}
	db.flush()
}

func (db *database) freeOrphans(limit int) (due map[uuid.UUID]time.Time, done bool) {
	due = make(map[uuid.UUID]time.Time)
	n := 0
	for ref, r := range db.retries {
		if n == limit || !db.orphaned(r.owner) {
			continue
		}
		if n++; due[ref.WebhookID].IsZero() || r.DueAt.Before(due[ref.WebhookID]) {
			due[ref.WebhookID] = r.DueAt
		}
		r.owner = uuid.Nil
		r.Takeovers++
		db.retries[ref] = r
	}
	if n > 0 {
		db.flush()
	}
	return due, n < limit
}

func (db *database) partitions(ahead time.Duration) fanfare.Position {
	end := db.now()
	if at := db.pos.Time(); at.After(end) {
		end = at
	}
	return fanfare.PositionAt(end.Add(ahead).Truncate(24 * time.Hour).Add(24 * time.Hour))
}
