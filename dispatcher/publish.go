package dispatcher

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/google/uuid"

	"github.com/fanfare-webhooks/fanfare"
	"github.com/fanfare-webhooks/fanfare/internal/schema"
	"github.com/fanfare-webhooks/fanfare/internal/store"
	"github.com/fanfare-webhooks/fanfare/internal/weaken"
	"github.com/fanfare-webhooks/fanfare/registry"
)

// Publication is an event on its way in.
type Publication struct {
	AccountID      uuid.UUID
	Type           string
	Data           []byte    // a JSON object; kept byte for byte and never written to
	OccurredAt     time.Time // zero: not given
	IdempotencyKey string    // "": none
	RequestHash    [32]byte  // of the whole request; tells a repeat from another request under the same key

	// One-off targets, at most [MaxDestinations]; nil: none. Their URLs were checked, and the account has a
	// signing secret, without which they wait.
	Destinations []fanfare.Destination

	CheckedBy *registry.EventType // the entry of the catalog whose schema Data satisfies; nil: Data was not checked
}

// Receipt says that an event is durable: it is committed and flushed.
type Receipt struct {
	ID       uuid.UUID
	Matched  int  // webhooks of the event's own account that matched
	Replayed bool // the idempotency key was known: this is the first publish's receipt
}

// ErrUnavailable refuses a publish because Postgres is out of reach or the node is stopping. The event may
// or may not have become durable. If it did, it is delivered; repeating it with an idempotency key is safe.
var ErrUnavailable = errors.New("the log is unavailable")

// RefusedError says which publication of a call could not be accepted and why.
type RefusedError struct {
	Index  int // in the call's publications
	Reason Refusal
	Faults []schema.Fault // of InvalidData, with pointers into the data
}

// Refusal is a reason to refuse a publication for good.
type Refusal string

// The refusals.
const (
	UnknownAccount   Refusal = "unknown_account"
	UnknownEventType Refusal = "unknown_event_type"
	InvalidData      Refusal = "invalid_data"      // it does not satisfy the schema of its type
	TooManyWebhooks  Refusal = "too_many_webhooks" // it matched more than 10,000, or the call more than 200,000
	KeyReused        Refusal = "idempotency_key_reused"
)

func (e *RefusedError) Error() string {
	return fmt.Sprintf("publication %d: %s", e.Index, e.Reason)
}

// maxCommitWait is how long a caller is kept waiting for a commit; an ordinary one takes milliseconds.
const maxCommitWait = 5 * time.Second

// The most deliveries of one event, and of all events of one call.
const (
	maxFanOut     = 10_000
	maxCallFanOut = 200_000
)

// Publish makes events durable, all of them or none, and starts their deliveries. It answers a
// [*RefusedError] for what the caller must change, [ErrOverloaded], [ErrAccountOverloaded] or
// [ErrUnavailable] for what time may heal. The end of ctx ends only the waiting: the events may become durable all the same.
func (d *Dispatcher) Publish(ctx context.Context, pubs []Publication) ([]Receipt, error) {
	unique, index, err := foldKeys(pubs)
	if err != nil {
		return nil, err
	}
	if len(unique) > 1 {
		if err := d.checkKeys(ctx, pubs, unique); err != nil {
			return nil, err
		}
	}
	cl := &call{pubs: unique}
	if err := d.submit(ctx, cl); err != nil {
		return nil, reindex(err, index)
	}
	first, err := d.receipts(ctx, cl)
	if err != nil {
		return nil, reindex(err, index)
	}
	receipts := make([]Receipt, len(pubs))
	seen := make([]bool, len(unique))
	for i, u := range index {
		receipts[i] = first[u]
		receipts[i].Replayed = receipts[i].Replayed || seen[u]
		seen[u] = true
	}
	return receipts, nil
}

// Admit answers [ErrOverloaded] or [ErrAccountOverloaded] if a publish of the account's would be now, so
// that it can be refused before its body is read. The nil account asks for everybody. It takes its time
// to refuse an account: whoever asks again at once would keep the node busy with refusing.
func (d *Dispatcher) Admit(ctx context.Context, account uuid.UUID) error {
	err := d.admission.check(account)
	if errors.Is(err, ErrAccountOverloaded) {
		pause(ctx, refusalPause+rand.N(refusalPause)) //nolint:gosec // jitter
	}
	return err
}

// submit matches a call and waits for its commit.
func (d *Dispatcher) submit(ctx context.Context, cl *call) error {
	cl.done = make(chan struct{})
	if !d.node.mayStart() { // without a lease nothing is committed
		return ErrUnavailable
	}
	cl.accounts = make(map[uuid.UUID]int, 1)
	for i := range cl.pubs {
		p := &cl.pubs[i]
		cl.accounts[p.AccountID]++
		cl.bytes += int64(len(p.Data))
		// A queued event must not keep the whole request in memory that it came in.
		if len(cl.pubs) > 1 || cap(p.Data) > 2*len(p.Data)+1024 {
			p.Data = bytes.Clone(p.Data)
		}
		// What is sent first and what is read back from the log later must be the same.
		p.OccurredAt = p.OccurredAt.Truncate(time.Millisecond)
	}
	for account := range cl.accounts {
		if err := d.admission.check(account); err != nil {
			return err
		}
	}
	d.admission.begins(cl.pubs[0].AccountID)
	defer d.admission.ends(cl.pubs[0].AccountID)
	if err := d.match(cl); err != nil {
		// Whoever is about to say that it does not know something asks Postgres first.
		if err := d.registry.CatchUp(ctx); err != nil {
			return errors.Join(ErrUnavailable, err)
		}
		if err := d.match(cl); err != nil {
			return err
		}
	}
	for i := range cl.events {
		cl.bytes += int64(len(cl.events[i].Destinations))
	}
	for account, n := range cl.accounts {
		d.admission.published(account, n*(len(cl.pubs)+cl.owed)/len(cl.pubs))
	}
	if weaken.Off(weaken.Early202) {
		return d.incoming.add(cl.answered(), false)
	}
	if err := d.incoming.add(cl, false); err != nil { // from here on the committer has it
		return err
	}
	patience := time.NewTimer(maxCommitWait)
	defer patience.Stop()
	select {
	case <-cl.done:
		return cl.err
	case <-ctx.Done():
		return errors.Join(ErrUnavailable, ctx.Err())
	case <-patience.C:
		return ErrUnavailable
	}
}

// answered tells the caller that its events are durable, under ids that are none, and returns what is still
// to be committed.
func (cl *call) answered() (left *call) {
	queued := *cl
	queued.done = make(chan struct{})
	for range cl.pubs {
		cl.ids, cl.inserted = append(cl.ids, uuid.New()), append(cl.inserted, true)
	}
	return &queued
}

// match decides whom each event of the call goes to, by one snapshot of the registry.
func (d *Dispatcher) match(cl *call) error {
	snap := d.registry.Snapshot()
	cl.version = snap.Version()
	cl.events, cl.hooks = make([]store.NewEvent, len(cl.pubs)), make([][]*registry.Webhook, len(cl.pubs))
	cl.lineage, cl.owed = cl.lineage[:0], 0
	var matched []*registry.Webhook
	for i := range cl.pubs {
		p := &cl.pubs[i]
		lineage := snap.Lineage(p.AccountID)
		if lineage == nil {
			return &RefusedError{Index: i, Reason: UnknownAccount}
		}
		if i == 0 || cl.pubs[i-1].AccountID != p.AccountID {
			cl.lineage = append(cl.lineage, lineage...)
		}
		matched = matched[:0]
		if cl.only != uuid.Nil {
			w := snap.Webhook(cl.only)
			if w == nil {
				return store.ErrNotFound
			}
			matched = append(matched, w)
		} else if t := snap.EventType(p.Type); t == nil {
			return &RefusedError{Index: i, Reason: UnknownEventType}
		} else if faults := p.check(t); len(faults) > 0 && !fanfare.Operational(p.Type) {
			// Operational events are sent nevertheless: what a tenant wrote into a webhook may go beyond what a schema
			// bears, such as a number's exponent, and that it was written is told all the same.
			return &RefusedError{Index: i, Reason: InvalidData, Faults: faults}
		} else if matched = snap.Match(matched, p.AccountID, p.Type, p.Data); len(matched) > maxFanOut || cl.owed+len(matched) > maxCallFanOut {
			return &RefusedError{Index: i, Reason: TooManyWebhooks}
		}
		cl.owed += len(matched) + len(p.Destinations)
		e := store.NewEvent{
			AccountID: p.AccountID, Type: p.Type, Data: p.Data, OccurredAt: p.OccurredAt, Key: p.IdempotencyKey,
			Hash: p.RequestHash[:], Test: cl.only != uuid.Nil, WebhookIDs: make([]uuid.UUID, len(matched)),
		}
		cl.hooks[i] = slices.Clone(matched)
		for j, w := range matched {
			e.WebhookIDs[j] = w.ID
			if w.AccountID == p.AccountID {
				e.Matched++
			}
		}
		if len(p.Destinations) > 0 {
			if err := d.sealDestinations(&e, p.Destinations); err != nil {
				return err
			}
		}
		cl.events[i] = e
	}
	return nil
}

// check holds the data against the schema of its type, unless that was done.
func (p *Publication) check(t *registry.EventType) []schema.Fault {
	if p.CheckedBy == t {
		return nil
	}
	faults := t.Check(p.Data, nil)
	if len(faults) == 0 {
		p.CheckedBy = t
	}
	return faults
}

// receipts reads the first answers of the events whose key was known, and makes those of the others.
func (d *Dispatcher) receipts(ctx context.Context, cl *call) ([]Receipt, error) {
	receipts := make([]Receipt, len(cl.pubs))
	var keys []store.KeyRef
	for i := range cl.pubs {
		receipts[i] = Receipt{ID: cl.ids[i], Matched: cl.events[i].Matched}
		if !cl.inserted[i] {
			keys = append(keys, cl.pubs[i].keyRef())
		}
	}
	if len(keys) == 0 {
		return receipts, nil
	}
	answers, err := d.store.FirstAnswers(ctx, keys)
	if err != nil {
		return nil, errors.Join(ErrUnavailable, err)
	}
	for i := range cl.pubs {
		if cl.inserted[i] {
			continue
		}
		a, ok := answers[cl.pubs[i].keyRef()]
		switch {
		case !ok: // forgotten between the two statements, a day after its publish
			return nil, ErrUnavailable
		case !bytes.Equal(a.Hash, cl.pubs[i].RequestHash[:]):
			return nil, &RefusedError{Index: i, Reason: KeyReused}
		}
		receipts[i] = Receipt{ID: a.EventID, Matched: a.Matched, Replayed: true}
	}
	return receipts, nil
}

// checkKeys refuses a batch one of whose keys stands for another request, before any of it is stored.
// A call that takes such a key between this look and the commit is seen only after it: then the batch
// is refused although its other events are stored. Two callers must use one key for two things at once.
func (d *Dispatcher) checkKeys(ctx context.Context, all, unique []Publication) error {
	var keys []store.KeyRef
	for i := range unique {
		if k := unique[i].keyRef(); k.Key != "" {
			keys = append(keys, k)
		}
	}
	if len(keys) == 0 {
		return nil
	}
	answers, err := d.store.FirstAnswers(ctx, keys)
	if err != nil {
		return errors.Join(ErrUnavailable, err)
	}
	for i := range all {
		if a, ok := answers[all[i].keyRef()]; ok && !bytes.Equal(a.Hash, all[i].RequestHash[:]) {
			return &RefusedError{Index: i, Reason: KeyReused}
		}
	}
	return nil
}

// foldKeys leaves out publications that repeat an earlier one of the same call. The index says where
// each publication went.
func foldKeys(pubs []Publication) (unique []Publication, index []int, err error) {
	index = make([]int, len(pubs))
	var at map[store.KeyRef]int
	for i := range pubs {
		k := pubs[i].keyRef()
		if j, seen := at[k]; seen && k.Key != "" {
			if unique[j].RequestHash != pubs[i].RequestHash {
				return nil, nil, &RefusedError{Index: i, Reason: KeyReused}
			}
			index[i] = j
			continue
		}
		if k.Key != "" {
			if at == nil {
				at = make(map[store.KeyRef]int)
			}
			at[k] = len(unique)
		}
		index[i] = len(unique)
		unique = append(unique, pubs[i])
	}
	return unique, index, nil
}

// reindex turns a refusal's place among the unique publications into its place in the call.
func reindex(err error, index []int) error {
	var refused *RefusedError
	if errors.As(err, &refused) {
		return &RefusedError{Index: slices.Index(index, refused.Index), Reason: refused.Reason, Faults: refused.Faults}
	}
	return err
}

func (p *Publication) keyRef() store.KeyRef {
	return store.KeyRef{AccountID: p.AccountID, Key: p.IdempotencyKey}
}

// Test makes an event that only the webhook sees, stores it, sends it now and answers the attempt. It
// is not repeated. A webhook that is disabled is sent it too. An event type that the catalog lacks is fine.
// The error is [store.ErrNotFound] if there is no such webhook.
func (d *Dispatcher) Test(ctx context.Context, account, webhook uuid.UUID, eventType string, data []byte) (*fanfare.Attempt, error) {
	cl := &call{
		pubs: []Publication{{AccountID: account, Type: eventType, Data: data}}, only: webhook,
		attempt: make(chan *fanfare.Attempt, 1),
	}
	if err := d.submit(ctx, cl); err != nil {
		return nil, err
	}
	select {
	case a := <-cl.attempt:
		if a == nil {
			return nil, ErrUnavailable
		}
		return a, nil
	case <-ctx.Done():
		return nil, errors.Join(ErrUnavailable, ctx.Err())
	}
}
