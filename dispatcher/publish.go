package dispatcher

import (
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"
)

// Publication is an event on its way in.
type Publication struct {
	AccountID      uuid.UUID
	Type           string
	Data           []byte    // a JSON object; kept byte for byte and never written to
	OccurredAt     time.Time // zero: not given
	IdempotencyKey string    // "": none
	RequestHash    [32]byte  // of the whole request; tells a repeat from another request under the same key
}

// Receipt says that an event is durable: it is committed and flushed.
type Receipt struct {
	ID       uuid.UUID
	Matched  int  // webhooks of the event's own account that matched
	Replayed bool // the idempotency key was known: this is the first publish's receipt
}

// Refusals of a publish. None of its events was stored.
var (
	// ErrOverloaded: the queue of events that wait for their commit is full.
	ErrOverloaded = errors.New("too many events wait for their commit")
	// ErrUnavailable: Postgres is out of reach or the node is stopping, and the event may or may not have
	// become durable. If it did, it is delivered; repeating it with an idempotency key is safe.
	ErrUnavailable = errors.New("the log is unavailable")
)

// RefusedError says which publication of a call could not be accepted and why.
type RefusedError struct {
	Index  int // in the call's publications
	Reason Refusal
}

// Refusal is a reason to refuse a publication for good.
type Refusal string

// The refusals.
const (
	UnknownAccount   Refusal = "unknown_account"
	UnknownEventType Refusal = "unknown_event_type"
	TooManyWebhooks  Refusal = "too_many_webhooks" // it matched more than 10,000
	KeyReused        Refusal = "idempotency_key_reused"
)

func (e *RefusedError) Error() string {
	return fmt.Sprintf("publication %d: %s", e.Index, e.Reason)
}
