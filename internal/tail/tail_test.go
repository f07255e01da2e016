package tail

import (
	"cmp"
	"context"
	"errors"
	"maps"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/uuid"
	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/goleak"

	"github.com/fanfare-webhooks/fanfare"
	"github.com/fanfare-webhooks/fanfare/internal/store"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// family is a tree of accounts: child → parent.
type family map[uuid.UUID]uuid.UUID

func (f family) Lineage(account uuid.UUID) (line []uuid.UUID) {
	for ok := true; ok; account, ok = f[account] {
		line = append(line, account)
	}
	return line
}

func (f family) Within(root, account uuid.UUID) bool {
	return slices.Contains(f.Lineage(account), root)
}

// heard is what a node knows of a tree: what it was when it last asked.
type heard struct {
	mu     sync.Mutex
	now    family
	known  family
	asked  int // for what is new
	within int // about an account
}

func (h *heard) CatchUp(context.Context) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.asked++
	h.known = maps.Clone(h.now)
	return nil
}

func (h *heard) put(account, parent uuid.UUID) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.now[account] = parent
}

func (h *heard) Lineage(account uuid.UUID) []uuid.UUID {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.known.Lineage(account)
}

func (h *heard) Within(root, account uuid.UUID) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.within++
	return h.known.Within(root, account)
}

// memory is a log, and counts what is asked of it.
type memory struct {
	mu             sync.Mutex
	events         []fanfare.Event
	size           int // of an event's data; 0: 100 bytes
	away           error
	tails, follows int
}

func (m *memory) commit(account uuid.UUID, types ...string) (positions []fanfare.Position) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, typ := range types {
		p := fanfare.PositionAt(time.Now()) + fanfare.Position(len(m.events)) + 1
		m.events = append(m.events, fanfare.Event{
			ID: fanfare.EventID(p, rand.Uint64()), AccountID: account, Type: typ, Data: make([]byte, cmp.Or(m.size, 100)), Test: typ == "test",
		})
		positions = append(positions, p)
	}
	return positions
}

func (m *memory) set(err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.away = err
}

func (m *memory) head() fanfare.Position {
	m.mu.Lock()
	defer m.mu.Unlock()
	if len(m.events) == 0 {
		return 0
	}
	return fanfare.PositionOf(m.events[len(m.events)-1].ID)
}

func (m *memory) asked() (tails, follows int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.tails, m.follows
}

func (m *memory) Follow(ctx context.Context, q store.LogQuery) (*store.LogPage, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.follows++; m.away != nil {
		return nil, m.away
	}
	page := &store.LogPage{Read: max(q.After, 0), CaughtUp: true}
	p := pick{q: &q}
	if q.Descendants {
		var err error
		if p.within, err = q.Tree(ctx); err != nil {
			return nil, err
		}
	}
	for i := range m.events {
		e := &m.events[i]
		at := fanfare.PositionOf(e.ID)
		if q.After == store.FromLatest {
			page.Read = at
			continue
		}
		if at <= q.After {
			continue
		}
		if p.wants(e) {
			if p.bytes += int64(len(e.Data)); len(page.Events) == q.Limit || len(page.Events) > 0 && p.bytes > q.MaxBytes {
				page.CaughtUp = false
				return page, nil
			}
			page.Events = append(page.Events, *e)
		}
		page.Read = at
	}
	return page, nil
}

func (m *memory) Tail(_ context.Context, after fanfare.Position, limit int, _ int64) ([]fanfare.Event, bool, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.tails++; m.away != nil {
		return nil, false, m.away
	}
	i, _ := slices.BinarySearchFunc(m.events, after, func(e fanfare.Event, p fanfare.Position) int {
		if fanfare.PositionOf(e.ID) <= p {
			return -1
		}
		return 1
	})
	n := min(limit, len(m.events)-i)
	return slices.Clone(m.events[i : i+n]), i+n == len(m.events), nil
}

// rig is a running tail of a log.
type rig struct {
	*testing.T
	*Tail
	log  *memory
	tree *heard
}

// inRig runs a test in a bubble of virtual time.
func inRig(t *testing.T, o Options, test func(r *rig)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		r := &rig{T: t, log: &memory{}, tree: &heard{now: family{}}}
		o.Registerer = prometheus.NewRegistry()
		r.Tail = New(r.log, Accounts{Tree: func() Tree { return r.tree }, CatchUp: r.tree.CatchUp}, o)
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- r.Tail.Run(ctx) }()
		defer func() {
			cancel()
			if err := <-done; err != nil {
				t.Error(err)
			}
		}()
		test(r)
	})
}

// answer is what a call got, and after how long.
type answer struct {
	page *store.LogPage
	err  error
	took time.Duration
}

// read is a call whose answer is written at once.
func (r *rig) read(ctx context.Context, q Query) (*store.LogPage, error) {
	page, done, err := r.Tail.Read(ctx, q)
	if err == nil {
		done()
	}
	return page, err
}

// wait begins a call and gives its answer when there is one.
func (r *rig) wait(q Query) chan answer {
	got := make(chan answer, 1)
	start := time.Now()
	go func() {
		page, err := r.read(r.Context(), q)
		got <- answer{page, err, time.Since(start)}
	}()
	synctest.Wait()
	return got
}

func (r *rig) wantEvents(got chan answer, within time.Duration, want ...fanfare.Position) *store.LogPage {
	r.Helper()
	a := <-got
	if a.err != nil {
		r.Fatal(a.err)
	}
	var positions []fanfare.Position
	for i := range a.page.Events {
		positions = append(positions, fanfare.PositionOf(a.page.Events[i].ID))
	}
	if !slices.Equal(positions, want) || a.took > within {
		r.Fatalf("%d after %s, want %d within %s", positions, a.took, want, within)
	}
	return a.page
}

func TestACommitWakesWhoWaitsForIt(t *testing.T) {
	account, other, child := uuid.New(), uuid.New(), uuid.New()
	inRig(t, Options{}, func(r *rig) {
		r.tree.put(child, account)
		q := Query{AccountID: account, Limit: 50, Wait: 30 * time.Second, After: r.log.commit(account, "old")[0]}
		all := r.wait(q)
		q.Types = []string{"call.*", "paid"}
		some := r.wait(q)
		q.Descendants = true
		deep := r.wait(q)

		time.Sleep(time.Second)
		r.log.commit(other, "call.ended", "paid")
		r.log.commit(account, "test")
		r.Wake()
		time.Sleep(time.Second)
		first := r.log.commit(account, "called", "call")
		r.Wake()
		page := r.wantEvents(all, 2*time.Second+tick, first...)
		if !page.CaughtUp || page.Read != r.log.head() {
			r.Errorf("%+v", page)
		}
		time.Sleep(time.Second)
		elsewhere := r.log.commit(child, "call.ended") // on another node
		r.wantEvents(deep, 3*time.Second+200*time.Millisecond, elsewhere...)
		last := r.log.commit(account, "paid")
		r.Wake()
		r.wantEvents(some, 4*time.Second, last...)
	})
}

func TestAnEmptyWaitEndsInTimeAndSaysHowFarTheLogWasRead(t *testing.T) {
	inRig(t, Options{}, func(r *rig) {
		account := uuid.New()
		got := r.wait(Query{AccountID: account, Limit: 50, Wait: 30 * time.Second})
		time.Sleep(time.Second)
		r.log.commit(uuid.New(), "t", "t")
		a := <-got
		if a.took != 30*time.Second || len(a.page.Events) != 0 || a.page.Read != r.log.head() || !a.page.CaughtUp {
			r.Errorf("%+v %+v", a, a.page)
		}
		for _, q := range []Query{{}, {After: r.log.head()}, {After: store.FromLatest}, {After: store.FromLatest, Wait: time.Minute}} {
			q.AccountID, q.Limit = account, 50
			if a := <-r.wait(q); a.took != 0 || a.err != nil || len(a.page.Events) != 0 || a.page.Read != r.log.head() {
				r.Errorf("%+v: %+v", q, a)
			}
		}
	})
}

func TestAThousandWhoWaitAskTheDatabaseOnce(t *testing.T) {
	for _, begun := range []bool{true, false} {
		inRig(t, Options{}, func(r *rig) { aThousandWait(r, begun) })
	}
}

func aThousandWait(r *rig, begun bool) {
	var head fanfare.Position
	if begun {
		head = r.log.commit(uuid.New(), "t")[0]
	}
	const n = 1000
	answers := make([]chan answer, n)
	accounts := make([]uuid.UUID, n)
	ask := func(after fanfare.Position) {
		for i := range answers {
			if accounts[i] == uuid.Nil {
				accounts[i] = uuid.New()
			}
			answers[i] = make(chan answer, 1)
			go func() {
				page, err := r.read(r.Context(), Query{AccountID: accounts[i], After: after, Limit: 50, Wait: 30 * time.Second})
				answers[i] <- answer{page: page, err: err}
			}()
			if i == 0 {
				synctest.Wait() // else those who come before the first one waits ask too
			}
		}
		synctest.Wait()
	}
	ask(head)
	for i := range answers {
		r.log.commit(accounts[i], "t")
	}
	r.Wake()
	for i := range answers {
		if a := <-answers[i]; a.err != nil || len(a.page.Events) != 1 || a.page.Events[0].AccountID != accounts[i] {
			r.Fatalf("%+v", a)
		}
	}
	ask(r.log.head())
	for i := range answers {
		if a := <-answers[i]; a.err != nil || len(a.page.Events) != 0 {
			r.Fatalf("%+v", a)
		}
	}
	tails, follows := r.log.asked()
	if follows != 1 || tails > 500 {
		r.Errorf("%d pages, %d looks at the end", follows, tails)
	}
	// Nobody waits: nothing is asked.
	time.Sleep(2 * linger)
	tails, _ = r.log.asked()
	r.Wake()
	time.Sleep(time.Hour)
	if later, _ := r.log.asked(); later != tails {
		r.Errorf("%d looks at the end for nobody", later-tails)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.ring.events != nil || r.reading {
		r.Error("something is kept for nobody")
	}
}

func TestEverybodyWhoFollowsSeesEachEventOnceAndInOrder(t *testing.T) {
	for range 20 {
		// Little memory, so that who is slow falls behind it.
		inRig(t, Options{Bytes: 20 * (overhead + 100)}, func(r *rig) {
			root, leaf, stranger := uuid.New(), uuid.New(), uuid.New()
			r.tree.put(leaf, root)
			accounts := []uuid.UUID{root, leaf, stranger}
			ctx, cancel := context.WithCancel(r.Context())
			var all sync.WaitGroup
			type follower struct {
				q    Query
				seen []fanfare.Position
			}
			var followers []*follower
			for i := range 12 {
				f := &follower{q: Query{
					AccountID: accounts[i%3], Descendants: i%2 == 0, Limit: 1 + rand.IntN(8), Wait: time.Duration(rand.IntN(3)) * time.Second,
				}}
				if i%4 == 0 {
					f.q.Types = []string{"a", "b.*"}
				}
				followers = append(followers, f)
				all.Go(func() {
					for {
						page, err := r.read(r.Context(), f.q)
						if err != nil {
							r.Error(err)
							return
						}
						for i := range page.Events {
							f.seen = append(f.seen, fanfare.PositionOf(page.Events[i].ID))
						}
						if page.Read < f.q.After {
							r.Errorf("back from %d to %d", f.q.After, page.Read)
						}
						if f.q.After = page.Read; ctx.Err() != nil && page.CaughtUp && len(page.Events) == 0 {
							return
						}
						time.Sleep(time.Duration(rand.IntN(500)) * time.Millisecond)
					}
				})
			}
			for range 300 {
				r.log.commit(accounts[rand.IntN(3)], []string{"a", "b.c", "c", "test"}[rand.IntN(4)])
				if rand.IntN(2) == 0 {
					r.Wake()
				}
				time.Sleep(time.Duration(rand.IntN(50)) * time.Millisecond)
			}
			cancel()
			all.Wait()
			for _, f := range followers {
				var want []fanfare.Position
				p := pick{q: &store.LogQuery{AccountID: f.q.AccountID, Types: f.q.Types}}
				if f.q.Descendants {
					p.within = func(a uuid.UUID) bool { return r.tree.Within(f.q.AccountID, a) }
				}
				for i := range r.log.events {
					if p.wants(&r.log.events[i]) {
						want = append(want, fanfare.PositionOf(r.log.events[i].ID))
					}
				}
				if !slices.Equal(f.seen, want) {
					r.Fatalf("%+v saw %d events, of %d", f.q, len(f.seen), len(want))
				}
			}
		})
	}
}

var errAway = errors.New("away")

func TestWhoWaitsDoesNotNoticeThatTheDatabaseIsAwayForAMoment(t *testing.T) {
	inRig(t, Options{}, func(r *rig) {
		account := uuid.New()
		q := Query{AccountID: account, After: r.log.commit(account, "t")[0], Limit: 50, Wait: 30 * time.Second}
		got := r.wait(q)
		r.log.set(errAway)
		time.Sleep(10 * time.Second)
		now := q
		now.Wait = 0
		if a := <-r.wait(now); !errors.Is(a.err, errAway) {
			r.Errorf("who does not wait is told %+v", a)
		}
		r.log.set(nil)
		r.wantEvents(got, 11*time.Second, r.log.commit(account, "t")...)

		q.After = r.log.head()
		got = r.wait(q)
		r.log.set(errAway)
		if a := <-got; !errors.Is(a.err, ErrAway) || a.took != 30*time.Second {
			r.Errorf("%+v", a)
		}
	})
}

func TestAStoppingNodeAnswersAtOnce(t *testing.T) {
	inRig(t, Options{}, func(r *rig) {
		account := uuid.New()
		q := Query{AccountID: account, Limit: 50, Wait: 30 * time.Second}
		got := r.wait(q)
		time.Sleep(time.Second)
		r.Stop()
		r.Stop()
		r.wantEvents(got, time.Second)
		r.wantEvents(r.wait(q), 0)
		last := r.log.commit(account, "t")
		r.wantEvents(r.wait(q), 0, last...)
	})
}

func TestWhoHasGoneIsForgotten(t *testing.T) {
	inRig(t, Options{}, func(r *rig) {
		ctx, cancel := context.WithCancel(r.Context())
		done := make(chan error)
		go func() {
			_, err := r.read(ctx, Query{AccountID: uuid.New(), Limit: 50, Wait: time.Minute, Descendants: true})
			done <- err
		}()
		synctest.Wait()
		cancel()
		if err := <-done; !errors.Is(err, context.Canceled) {
			r.Error(err)
		}
		r.mu.Lock()
		defer r.mu.Unlock()
		if used := r.room.used(); len(r.waiters)+r.waiting+r.deep != 0 || used != 0 {
			r.Errorf("%d accounts, %d wait, %d for descendants, with room for %d bytes", len(r.waiters), r.waiting, r.deep, used)
		}
	})
}

func TestAnAccountMayHaveAsManyWhoWaitAsThereIsRoomForOthers(t *testing.T) {
	inRig(t, Options{MaxWaiting: 9}, func(r *rig) {
		loud, quiet := uuid.New(), uuid.New()
		fill := func(account uuid.UUID) (n int) {
			for ; n < 20; n++ {
				got := r.wait(Query{AccountID: account, Limit: 50, Wait: time.Minute})
				select {
				case a := <-got:
					if !errors.Is(a.err, ErrTooMany) {
						r.Error(a.err)
					}
					return n
				default:
				}
			}
			return n
		}
		if n := fill(loud); n != 5 {
			r.Errorf("%d wait for the first", n)
		}
		if n := fill(quiet); n != 2 {
			r.Errorf("%d wait for the second", n)
		}
		time.Sleep(2 * time.Minute)
	})
}

func TestWhatIsInMemoryIsForgottenAfterAMinute(t *testing.T) {
	inRig(t, Options{}, func(r *rig) {
		account := uuid.New()
		waits := r.wait(Query{AccountID: uuid.New(), Limit: 50, Wait: 2 * time.Hour})
		first := r.log.commit(account, "t", "t")[0]
		time.Sleep(30 * time.Second)
		r.log.mu.Lock()
		for i := range r.log.events {
			r.log.events[i].Data = []byte("{}") // expunged
		}
		r.log.mu.Unlock()
		read := func() string {
			a := <-r.wait(Query{AccountID: account, After: first, Limit: 50})
			if a.err != nil || len(a.page.Events) != 1 {
				r.Fatalf("%+v", a)
			}
			return string(a.page.Events[0].Data)
		}
		if read() == "{}" {
			r.Error("nothing was in memory")
		}
		time.Sleep(31 * time.Second)
		if read() != "{}" {
			r.Error("it is still in memory")
		}
		r.Stop()
		<-waits
	})
}
