package dispatcher

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"

	"github.com/fanfare-webhooks/fanfare"
	"github.com/fanfare-webhooks/fanfare/internal/egress"
	"github.com/fanfare-webhooks/fanfare/internal/seal"
	"github.com/fanfare-webhooks/fanfare/internal/store"
	"github.com/fanfare-webhooks/fanfare/registry"
	"github.com/fanfare-webhooks/fanfare/retry"
)

// MaxDestinations is how many one-off destinations an event may have.
const MaxDestinations = 10

// sharers is how many ids there are of one queue; at least MaxDestinations, and a power of two.
const sharers = 16

// oneOffTimeout bounds a request to a one-off destination.
const oneOffTimeout = 30 * time.Second

// destinationColumn is part of the place that an event's one-off destinations are sealed for. The rest is the
// account and the random tail of the event's id, the part that is known before the commit.
const destinationColumn = "events.destinations"

// A one-off destination has no id, but a delivery needs one where others have their webhook's. It is made of
// the account, the host and port that are called, and in its last four bits the destination's number among
// those of its event that call the same. So two deliveries of one event differ, and all that an account owes
// to one host and port, however many events that is, goes by MaxDestinations ids at most: a claim names them as it
// names webhooks, and they share one queue, that of the number 0.
//
// It is a UUIDv8 (RFC 9562), which no webhook's is.
func destinationID(account uuid.UUID, endpoint string, number int) uuid.UUID {
	h := sha256.New()
	h.Write(account[:])
	h.Write([]byte(endpoint))
	id := uuid.UUID(h.Sum(nil)[:16])
	id[6] = id[6]&0x0f | 0x80
	id[8] = id[8]&0x3f | 0x80
	id[15] = id[15]&^(sharers-1) | byte(number)
	return id
}

// isOneOff says whether an id stands for one-off destinations, and is no webhook's.
func isOneOff(id uuid.UUID) bool { return id[6]>>4 == 8 }

// queueOf is the id of the queue in which deliveries wait that have this one.
func queueOf(id uuid.UUID) uuid.UUID {
	if isOneOff(id) {
		id[15] &^= sharers - 1
	}
	return id
}

// sharer is a set of ids that share a queue: bit n stands for number n. A webhook's has only the first.
type sharer uint16

func sharerOf(id uuid.UUID) sharer {
	if isOneOff(id) {
		return 1 << (id[15] & (sharers - 1))
	}
	return 1
}

// ids lists them; queue is their queue's id.
func (s sharer) ids(queue uuid.UUID) (ids []uuid.UUID) {
	for number := range sharers {
		if s&(1<<number) != 0 {
			id := queue
			id[15] |= byte(number)
			ids = append(ids, id)
		}
	}
	return ids
}

// sealDestinations puts the one-off destinations of a publication into its event, whose tail it fixes.
func (d *Dispatcher) sealDestinations(e *store.NewEvent, list []fanfare.Destination) error {
	plain, err := json.Marshal(list)
	if err != nil {
		return fmt.Errorf("write one-off destinations: %w", err)
	}
	e.Tail = randomTail()
	e.Destinations = d.opts.Keyring.Seal(destinationPlace(e.AccountID, e.Tail), plain)
	e.DestinationIDs = make([]uuid.UUID, len(list))
	numbers := make(map[string]int)
	for i := range list {
		endpoint := egress.Endpoint(list[i].URL)
		e.DestinationIDs[i] = destinationID(e.AccountID, endpoint, numbers[endpoint])
		numbers[endpoint]++
	}
	return nil
}

func destinationPlace(account uuid.UUID, tail uint64) seal.Place {
	p := seal.Place{Account: account, Column: destinationColumn}
	binary.BigEndian.PutUint64(p.Object[8:], tail)
	return p
}

// openDestination reads the one that a delivery is for. The error says nothing of what is in it.
func (d *Dispatcher) openDestination(dl *delivery, sealed []byte) (*fanfare.Destination, error) {
	tail := binary.BigEndian.Uint64(dl.event.id[8:]) & (1<<fanfare.TailBits - 1)
	plain, err := d.opts.Keyring.Open(destinationPlace(dl.account, tail), sealed)
	if err != nil {
		return nil, err
	}
	var list []fanfare.Destination
	if json.Unmarshal(plain, &list) != nil || dl.destination > len(list) {
		return nil, errors.New("what is sealed is no list of destinations")
	}
	return &list[dl.destination-1], nil
}

// oneOff is a one-off destination as a webhook, but for its URL and options, which its request finds out. It is
// nil if the account is unknown or deleted.
func (d *Dispatcher) oneOff(account uuid.UUID) *registry.Webhook {
	return d.registry.Snapshot().OneOff(fanfare.Webhook{
		AccountID: account, Timeout: oneOffTimeout, RetrySchedule: retry.Default, MaxInFlight: defaultLimit,
	})
}

// ofHost is what an attempt at one of many URLs says about their host: one that refuses what it is sent says that
// it is there, and nothing about the others.
func ofHost(l lesson, out retry.Outcome) lesson {
	l.url = oneOffURL
	if l.kind == failed && (out.Error == fanfare.ErrStatus || out.Error == fanfare.ErrRedirect) {
		l.kind = succeeded
	}
	return l
}
