package outbox

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/uuid"
	"go.uber.org/goleak"

	"github.com/fanfare-webhooks/fanfare/dispatcher"
	"github.com/fanfare-webhooks/fanfare/internal/store"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var errAway = errors.New("Postgres is away")

// term is the default.
const term = time.Minute

// table is an outbox in memory, on the bubble's clock.
type table struct {
	mu   sync.Mutex // guards the rest
	rows map[uuid.UUID]*row
	away bool // every call fails
	deaf bool // what becomes of rows cannot be written
	asks int
	bell chan struct{}
}

type row struct {
	store.OutboxRow
	due time.Time
}

func newTable(n int) *table {
	t := &table{rows: make(map[uuid.UUID]*row), bell: make(chan struct{}, 1)}
	for i := range n {
		t.write(fmt.Sprintf("row.%d", i))
	}
	return t
}

func (t *table) write(name string) uuid.UUID {
	t.mu.Lock()
	defer t.mu.Unlock()
	r := &row{OutboxRow: store.OutboxRow{ID: uuid.Must(uuid.NewV7()), AccountID: uuid.New(), Name: name, Body: []byte("{}"), CreatedAt: time.Now()}, due: time.Now()}
	t.rows[r.ID] = r
	return r.ID
}

func (t *table) set(f func(*table)) { t.mu.Lock(); defer t.mu.Unlock(); f(t) }

func (t *table) left() int { t.mu.Lock(); defer t.mu.Unlock(); return len(t.rows) }

func (t *table) ClaimOutbox(_ context.Context, _ store.OutboxKind, limit int, term time.Duration) (list []store.OutboxRow, err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.asks++
	if t.away {
		return nil, errAway
	}
	for _, r := range t.rows {
		if !r.due.After(time.Now()) {
			list = append(list, r.OutboxRow)
		}
	}
	slices.SortFunc(list, func(a, b store.OutboxRow) int { return cmp.Compare(a.ID.String(), b.ID.String()) })
	list = list[:min(limit, len(list))]
	for i := range list {
		r := t.rows[list[i].ID]
		r.due = time.Now().Add(term)
		r.Tries++
		list[i].Tries = r.Tries
	}
	return list, nil
}

func (t *table) FinishOutbox(_ context.Context, ids []uuid.UUID) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.away || t.deaf {
		return errAway
	}
	for _, id := range ids {
		delete(t.rows, id)
	}
	return nil
}

func (t *table) PostponeOutbox(_ context.Context, ids []uuid.UUID, waits []time.Duration) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.away || t.deaf {
		return errAway
	}
	for i, id := range ids {
		t.rows[id].due = time.Now().Add(waits[i])
	}
	return nil
}

func (t *table) OutboxWritten(store.OutboxKind) <-chan struct{} { return t.bell }

// drained runs a drain in a bubble for as long as during takes.
func drained(t *testing.T, source *table, handle Handle, o Options, during func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- New(source, store.OutboxEvent, handle, o).Run(ctx) }()
	during()
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

func TestRowsAreHandedOverInTheirOrderAndGo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		source := newTable(3*lot + 1)
		var names []string
		drained(t, source, func(_ context.Context, rows []store.OutboxRow) []error {
			for _, r := range rows {
				names = append(names, r.Name)
			}
			return make([]error, len(rows))
		}, Options{}, func() { time.Sleep(time.Second) })
		if len(names) != 3*lot+1 || names[0] != "row.0" || names[3*lot] != fmt.Sprint("row.", 3*lot) || source.left() != 0 {
			t.Errorf("%d rows were handed over, %d are left", len(names), source.left())
		}
	})
}

func TestARowThatWasJustWrittenDoesNotWaitForThePoll(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		source := newTable(0)
		var took time.Duration
		drained(t, source, func(_ context.Context, rows []store.OutboxRow) []error {
			took = time.Since(rows[0].CreatedAt)
			return make([]error, len(rows))
		}, Options{Poll: time.Hour}, func() {
			time.Sleep(time.Minute)
			source.write("late")
			source.bell <- struct{}{}
			synctest.Wait()
		})
		if source.left() != 0 || took > 0 {
			t.Errorf("%d rows are left after %s", source.left(), took)
		}
	})
}

func TestARowThatFailsIsTriedLaterAndLaterAndKeepsNobody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		source := newTable(2)
		began := time.Now()
		var tries []time.Duration
		drained(t, source, func(_ context.Context, rows []store.OutboxRow) []error {
			errs := make([]error, len(rows))
			for i, r := range rows {
				if r.Name == "row.0" {
					tries = append(tries, time.Since(began))
					errs[i] = errors.New("not now")
				}
			}
			return errs
		}, Options{}, func() { time.Sleep(2 * time.Hour) })
		if source.left() != 1 {
			t.Fatalf("%d rows are left", source.left())
		}
		for i := 1; i < len(tries); i++ {
			gap := tries[i] - tries[i-1]
			if least := min(firstWait<<min(i-1, 20), maxWait); gap < least || gap > 2*least+2*time.Second {
				t.Errorf("after try %d it waited %s", i, gap)
			}
		}
		if len(tries) < 20 {
			t.Errorf("it was tried %d times", len(tries))
		}
	})
}

// What was handed over is not tried again at once, only because that could not be written down.
func TestARowWhoseEndCannotBeWrittenComesAgainWhenItsTermIsOver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		source := newTable(1)
		source.deaf = true
		var ids []uuid.UUID
		drained(t, source, func(_ context.Context, rows []store.OutboxRow) []error {
			ids = append(ids, rows[0].ID)
			return make([]error, len(rows))
		}, Options{}, func() {
			time.Sleep(term / 2)
			source.set(func(s *table) { s.deaf = false })
			time.Sleep(term)
		})
		if len(ids) != 2 || ids[0] != ids[1] || source.left() != 0 {
			t.Errorf("it was handed over as %v, %d rows are left", ids, source.left())
		}
	})
}

func TestADrainSurvivesThatPostgresIsAway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		source := newTable(1)
		source.away = true
		var log counter
		drained(t, source, func(_ context.Context, rows []store.OutboxRow) []error { return make([]error, len(rows)) },
			Options{Log: slog.New(slog.NewTextHandler(&log, nil))}, func() {
				time.Sleep(time.Minute)
				source.set(func(s *table) { s.away = false })
				time.Sleep(time.Minute)
			})
		if source.left() != 0 || source.asks > 70 || log.n != 2 {
			t.Errorf("%d rows are left after %d questions and %d lines of log", source.left(), source.asks, log.n)
		}
	})
}

// counter counts what is written to it.
type counter struct{ n int }

func (c *counter) Write(b []byte) (int, error) { c.n++; return len(b), nil }

func TestWhatCannotBeDoneBeforeKeepsNoRows(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		source := newTable(1)
		before := func(context.Context) error { return errAway }
		drained(t, source, func(_ context.Context, rows []store.OutboxRow) []error { return make([]error, len(rows)) },
			Options{Before: before}, func() { time.Sleep(time.Second) })
		if source.left() != 0 {
			t.Errorf("%d rows are left", source.left())
		}
	})
}

func TestAStopLetsARowInHandBeHandedOver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		source := newTable(1)
		var ended error
		drained(t, source, func(ctx context.Context, rows []store.OutboxRow) []error {
			time.Sleep(3 * time.Second)
			ended = ctx.Err()
			return []error{ended}
		}, Options{}, func() { time.Sleep(time.Second) })
		if source.left() != 0 || ended != nil {
			t.Errorf("%d rows are left: %v", source.left(), ended)
		}
	})
}

// log is a publisher that refuses some types, and everything while it is away.
type log struct {
	refused   map[string]dispatcher.Refusal
	alone     map[string]bool // refused only together with others
	away      bool
	loud      uuid.UUID // an account that publishes more than its share
	published []dispatcher.Publication
}

func (l *log) Publish(_ context.Context, pubs []dispatcher.Publication) ([]dispatcher.Receipt, error) {
	if l.away {
		return nil, dispatcher.ErrUnavailable
	}
	for i, p := range pubs {
		if p.AccountID == l.loud {
			return nil, dispatcher.ErrAccountOverloaded
		}
		if reason := l.refused[p.Type]; reason != "" && !(l.alone[p.Type] && len(pubs) == 1) {
			return nil, &dispatcher.RefusedError{Index: i, Reason: reason}
		}
	}
	l.published = append(l.published, pubs...)
	return make([]dispatcher.Receipt, len(pubs)), nil
}

func TestEventsArePublishedUnderTheirRowsIDs(t *testing.T) {
	source, l := newTable(3), &log{}
	rows, _ := source.ClaimOutbox(t.Context(), store.OutboxEvent, 9, term)
	for range 2 { // again after the first answer was lost
		for _, err := range Events(l, slog.New(slog.DiscardHandler))(t.Context(), rows) {
			if err != nil {
				t.Error(err)
			}
		}
	}
	for i, p := range l.published {
		r, first := rows[i%3], l.published[i%3]
		if p.IdempotencyKey != r.ID.String() || p.RequestHash != first.RequestHash || p.RequestHash == [32]byte{} ||
			p.AccountID != r.AccountID || p.Type != r.Name || !p.OccurredAt.Equal(r.CreatedAt) || string(p.Data) != "{}" {
			t.Errorf("row %+v was published as %+v", r, p)
		}
	}
	if len(l.published) != 6 {
		t.Errorf("%d events were published", len(l.published))
	}
}

func TestARowThatCannotBePublishedIsInNobodysWay(t *testing.T) {
	for name, c := range map[string]struct {
		log  log
		kept bool // the row is tried again
		sent int
	}{
		"its account was deleted": {log{refused: map[string]dispatcher.Refusal{"row.1": dispatcher.UnknownAccount}}, false, 3},
		"too many want it":        {log{refused: map[string]dispatcher.Refusal{"row.1": dispatcher.TooManyWebhooks}}, false, 3},
		"too many want it and its neighbours": {
			log{refused: map[string]dispatcher.Refusal{"row.1": dispatcher.TooManyWebhooks}, alone: map[string]bool{"row.1": true}}, false, 4,
		},
		"its type is not in the catalog yet": {log{refused: map[string]dispatcher.Refusal{"row.1": dispatcher.UnknownEventType}}, true, 3},
	} {
		t.Run(name, func(t *testing.T) {
			rows, _ := newTable(4).ClaimOutbox(t.Context(), store.OutboxEvent, 9, term)
			errs := Events(&c.log, slog.New(slog.DiscardHandler))(t.Context(), rows)
			for i, err := range errs {
				if kept := err != nil; kept != (c.kept && rows[i].Name == "row.1") {
					t.Errorf("%s: %v", rows[i].Name, err)
				}
			}
			if len(c.log.published) != c.sent {
				t.Errorf("%d events were published", len(c.log.published))
			}
		})
	}
	t.Run("its account is too loud", func(t *testing.T) {
		rows, _ := newTable(4).ClaimOutbox(t.Context(), store.OutboxEvent, 9, term)
		rows[3].AccountID = rows[1].AccountID
		l := &log{loud: rows[1].AccountID}
		for i, err := range Events(l, slog.New(slog.DiscardHandler))(t.Context(), rows) {
			if (err != nil) != (rows[i].AccountID == l.loud) {
				t.Errorf("row %d: %v", i, err)
			}
		}
		if len(l.published) != 2 {
			t.Errorf("%d events were published", len(l.published))
		}
	})
	t.Run("its type is still not in the catalog", func(t *testing.T) {
		rows, _ := newTable(1).ClaimOutbox(t.Context(), store.OutboxEvent, 9, term)
		rows[0].CreatedAt = time.Now().Add(-2 * unknownFor)
		l := &log{refused: map[string]dispatcher.Refusal{"row.0": dispatcher.UnknownEventType}}
		if errs := Events(l, slog.New(slog.DiscardHandler))(t.Context(), rows); errs[0] != nil {
			t.Error(errs)
		}
	})
	t.Run("the log is away", func(t *testing.T) {
		rows, _ := newTable(4).ClaimOutbox(t.Context(), store.OutboxEvent, 9, term)
		for i, err := range Events(&log{away: true}, slog.New(slog.DiscardHandler))(t.Context(), rows) {
			if !errors.Is(err, dispatcher.ErrUnavailable) {
				t.Errorf("row %d: %v", i, err)
			}
		}
	})
}
