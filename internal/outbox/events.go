package outbox

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"log/slog"
	"slices"
	"time"

	"github.com/fanfare-webhooks/fanfare/dispatcher"
	"github.com/fanfare-webhooks/fanfare/internal/store"
)

// Publisher makes events durable: a [dispatcher.Dispatcher].
type Publisher interface {
	// Publish stores all of the publications or none. One whose key is known is not stored again.
	Publish(ctx context.Context, publications []dispatcher.Publication) ([]dispatcher.Receipt, error)
}

// Events publishes each row as an event of its account, under the row's id as idempotency key. What cannot
// be published for good is dropped: its account was deleted, more webhooks want it than an event may have, or the
// catalog has no such type, or wants other data of it.
func Events(p Publisher, log *slog.Logger) Handle {
	e := events{publisher: p, log: log}
	return e.publish
}

type events struct {
	publisher Publisher
	log       *slog.Logger
}

func (e *events) publish(ctx context.Context, rows []store.OutboxRow) []error {
	errs := make([]error, len(rows))
	all := make([]int, len(rows)) // indexes
	for i := range rows {
		all[i] = i
	}
	if err := e.together(ctx, rows, all, errs); !errors.Is(err, dispatcher.ErrAccountOverloaded) {
		return errs
	}
	// One account publishes more than its share. The others need not wait for it.
	slices.SortStableFunc(all, func(i, j int) int { return bytes.Compare(rows[i].AccountID[:], rows[j].AccountID[:]) })
	for from, to := 0, 0; from < len(all); from = to {
		for to = from; to < len(all) && rows[all[to]].AccountID == rows[all[from]].AccountID; to++ {
		}
		_ = e.together(ctx, rows, all[from:to], errs)
	}
	return errs
}

// together publishes rows at once, but for those that are refused, and writes down what became of each in errs. It
// answers the error that they all have.
func (e *events) together(ctx context.Context, rows []store.OutboxRow, which []int, errs []error) error {
	left := slices.Clone(which) // that are not settled
	for len(left) > 0 {
		_, err := e.publisher.Publish(ctx, publications(rows, left))
		var refused *dispatcher.RefusedError
		if !errors.As(err, &refused) {
			for _, i := range left {
				errs[i] = err
			}
			return err
		}
		i := left[refused.Index]
		left = slices.Delete(left, refused.Index, refused.Index+1)
		errs[i] = e.refused(ctx, rows, i, refused)
	}
	return nil
}

// refused decides about a row that is in the way of the others.
func (e *events) refused(ctx context.Context, rows []store.OutboxRow, i int, refused *dispatcher.RefusedError) error {
	var err error = refused
	if refused.Reason == dispatcher.TooManyWebhooks { // perhaps only together with others
		if _, err = e.publisher.Publish(ctx, publications(rows, []int{i})); err == nil || !errors.As(err, &refused) {
			return err
		}
	}
	if refused.Reason == dispatcher.UnknownEventType && time.Since(rows[i].CreatedAt) < unknownFor {
		return err
	}
	e.log.Warn("an operational event is not published", "type", rows[i].Name, "account", rows[i].AccountID, "reason", refused.Reason)
	return nil
}

// unknownFor is how long a row waits for the catalog to have its type: an old node knows nothing of what a new one
// tells.
const unknownFor = 24 * time.Hour

func publications(rows []store.OutboxRow, which []int) []dispatcher.Publication {
	pubs := make([]dispatcher.Publication, len(which))
	for n, i := range which {
		r := &rows[i]
		pubs[n] = dispatcher.Publication{
			AccountID: r.AccountID, Type: r.Name, Data: r.Body, OccurredAt: r.CreatedAt,
			IdempotencyKey: r.ID.String(), RequestHash: sha256.Sum256(r.Body),
		}
	}
	return pubs
}
