package outbox

import (
	"context"
	"crypto/sha256"
	"errors"
	"log/slog"

	"github.com/fanfare-webhooks/fanfare/dispatcher"
	"github.com/fanfare-webhooks/fanfare/internal/store"
)

// Publisher makes events durable: a [dispatcher.Dispatcher].
type Publisher interface {
	// Publish stores all of the publications or none. One whose key is known is not stored again.
	Publish(ctx context.Context, publications []dispatcher.Publication) ([]dispatcher.Receipt, error)
}

// Events publishes each row as an event of its account, under the row's id as idempotency key. What cannot
// be published for good is dropped: its account was deleted, or more webhooks want it than an event may have.
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
	left := make([]int, len(rows)) // indexes of those that are not settled
	for i := range rows {
		left[i] = i
	}
	for len(left) > 0 {
		_, err := e.publisher.Publish(ctx, publications(rows, left))
		var refused *dispatcher.RefusedError
		if !errors.As(err, &refused) {
			for _, i := range left {
				errs[i] = err
			}
			return errs
		}
		i := left[refused.Index]
		left = append(left[:refused.Index:refused.Index], left[refused.Index+1:]...)
		errs[i] = e.refused(ctx, rows, i, refused)
	}
	return errs
}

// refused decides about a row that is in the way of the others.
func (e *events) refused(ctx context.Context, rows []store.OutboxRow, i int, refused *dispatcher.RefusedError) error {
	var err error = refused
	if refused.Reason == dispatcher.TooManyWebhooks { // perhaps only together with others
		if _, err = e.publisher.Publish(ctx, publications(rows, []int{i})); err == nil || !errors.As(err, &refused) {
			return err
		}
	}
	switch refused.Reason {
	case dispatcher.UnknownAccount, dispatcher.TooManyWebhooks:
		e.log.Warn("an operational event is not published", "type", rows[i].Name, "account", rows[i].AccountID, "reason", refused.Reason)
		return nil
	}
	return err
}

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
