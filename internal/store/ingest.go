package store

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/fanfare-webhooks/fanfare"
	"github.com/fanfare-webhooks/fanfare/internal/weaken"
)

// NewEvent is an event that has been matched and is ready for its commit.
type NewEvent struct {
	AccountID  uuid.UUID
	Type       string
	Data       []byte
	OccurredAt time.Time // zero: not given
	Key        string    // the idempotency key; "": none
	Hash       []byte    // of the request, with Key
	WebhookIDs []uuid.UUID
	Matched    int
	Test       bool
	Tail       uint64 // the random part of the id

	Destinations   []byte      // one-off targets, sealed; nil: none
	DestinationIDs []uuid.UUID // what stands for each of them in place of a webhook's id
}

// Group is what one commit adds to the log.
type Group struct {
	ID              uuid.UUID // made by the node; names the open group
	Node            uuid.UUID // the incarnation that commits and owns it
	Events          []NewEvent
	Accounts        []uuid.UUID      // the events' accounts, all their ancestors, and the platform account
	RegistryVersion int64            // of the snapshot that Events were matched against
	Floor           fanfare.Position // the highest that this node ever saw
	Ceiling         fanfare.Position // the end of the newest partition
}

// Committed tells what became of a [Group]. If Stale is not empty, Alive is false or Beyond is true,
// nothing was inserted and the position did not move.
type Committed struct {
	Stale    []uuid.UUID      // accounts that changed after the snapshot
	Alive    bool             // the node held its lease
	Beyond   bool             // the position would have passed the newest partition: the clock jumped ahead
	Base     fanfare.Position // event n (0-based) has the id EventID(Base+1+n, Tail)
	Inserted []bool           // per event; false: its idempotency key was there before
}

// The append to the log. It is ONE statement, sent in one write, in no explicit transaction: the
// advisory lock lasts to the end of the transaction, and only so does that not depend on this
// process. A BEGIN in front would break two things: a stalled client would hold the lock for ever,
// and the check of the accounts would look at a snapshot older than this publish.
//
// The order of its parts is forced by what each reads from: accounts and lease, then the lock, then
// the position, then the rows. The accounts are read from the statement's snapshot, which is enough:
// a change that was answered before this publish was sent had committed before this statement began.
// A transaction becomes visible before it gives its locks back, so the order of commits, of
// visibility and of positions is the same.
//
// Keys go in after the lock: taken before it they deadlock. The first answer under a key that is
// there already is read by another statement, since this one's snapshot may not show it.
const ingestSQL = `
WITH stale AS MATERIALIZED (
	SELECT id FROM accounts WHERE id = ANY ($1) AND (registry_version > $2 OR deleted_at IS NOT NULL)
), alive AS MATERIALIZED (
	SELECT 1 FROM nodes WHERE id = $3 AND NOT dead AND lease_until > clock_timestamp()
), lck AS MATERIALIZED (
	SELECT ` + logLockSQL + ` FROM alive WHERE NOT EXISTS (SELECT FROM stale)
), pos AS MATERIALIZED (
	SELECT greatest(nextval('log_pos'), (extract(epoch FROM clock_timestamp()) * 1000)::bigint << 16, $4::bigint) AS p FROM lck
), head AS MATERIALIZED (
	SELECT setval('log_pos', p + $5::int) - $5::int AS base FROM pos WHERE p + $5::int < $6::bigint
), rows AS MATERIALIZED (
	SELECT event_id(base + u.n, u.tail) AS id, u.n, u.account_id, u.type, u.data, u.occurred_at, u.key, u.hash,
		($15::uuid[])[u.upto - u.count + 1:u.upto] AS webhook_ids, u.matched, u.test, u.destinations,
		CASE WHEN u.more > 0 THEN ($15::uuid[])[u.upto + 1:u.upto + u.more] END AS destination_ids
	FROM head, unnest($7::uuid[], $8::text[], $9::bytea[], $10::timestamptz[], $11::text[], $12::bytea[], $13::int[], $14::int[],
		$16::int[], $17::bool[], $18::bigint[], $20::bytea[], $21::int[])
		WITH ORDINALITY AS u (account_id, type, data, occurred_at, key, hash, upto, count, matched, test, tail, destinations, more, n)
), keyed AS (` + keyedSQL + `), ev AS (
	INSERT INTO events (id, account_id, type, data, occurred_at, idempotency_key, webhook_ids, matched, test, destinations, destination_ids)
	SELECT id, account_id, type, data, occurred_at, key, webhook_ids, matched, test, destinations, destination_ids FROM rows
	WHERE key IS NULL OR id IN (SELECT event_id FROM keyed)
), grp AS (
	INSERT INTO open_groups (id, owner, first, last)
	SELECT $19, $3, (SELECT id FROM rows ORDER BY n LIMIT 1), (SELECT id FROM rows ORDER BY n DESC LIMIT 1)
	FROM head WHERE cardinality($15::uuid[]) > 0
)
SELECT (SELECT base FROM head), (SELECT array_agg(id) FROM stale), EXISTS (SELECT FROM alive), (SELECT array_agg(event_id) FROM keyed)`

const keyedSQL = `
	INSERT INTO idempotency_keys (account_id, key, event_id, request_hash)
	SELECT account_id, key, id, hash FROM rows WHERE key IS NOT NULL
	ON CONFLICT DO NOTHING RETURNING event_id
`

// checkedKeysSQL looks before it inserts: two commits that look at once both find nothing.
const checkedKeysSQL = `
	SELECT id AS event_id FROM rows r WHERE key IS NOT NULL
		AND NOT EXISTS (SELECT FROM idempotency_keys k WHERE k.account_id = r.account_id AND k.key = r.key)
), late AS (
	INSERT INTO idempotency_keys (account_id, key, event_id, request_hash)
	SELECT account_id, key, id, hash FROM rows WHERE id IN (SELECT event_id FROM keyed)
	ON CONFLICT DO NOTHING
`

// logLockSQL makes commits wait for each other.
const logLockSQL = `pg_advisory_xact_lock(20566, 1)`

func ingestStatement() string {
	if weaken.Off(weaken.Order) {
		return strings.Replace(ingestSQL, logLockSQL, "1", 1)
	}
	if weaken.Off(weaken.Keys) {
		return strings.Replace(ingestSQL, keyedSQL, checkedKeysSQL, 1)
	}
	return ingestSQL
}

// Ingest commits g to the log. When it returns without an error and with Inserted set, the events are
// durable. After an error the group may have been committed all the same: it is then an open group of
// g.Node under g.ID.
func (s *Store) Ingest(ctx context.Context, g *Group) (*Committed, error) {
	n := len(g.Events)
	var (
		accounts = make([]uuid.UUID, n)
		types    = make([]string, n)
		data     = make([][]byte, n)
		occurred = make([]*time.Time, n)
		keys     = make([]*string, n)
		hashes   = make([][]byte, n)
		upto     = make([]int32, n)
		counts   = make([]int32, n)
		matched  = make([]int32, n)
		tests    = make([]bool, n)
		tails    = make([]int64, n)
		hooks    = make([]uuid.UUID, 0, n)
		// Of a group without one-off destinations, which is nearly every one, these stay nil: nulls for all.
		destinations [][]byte
		more         []int32
	)
	for i := range g.Events {
		e := &g.Events[i]
		hooks = append(hooks, e.WebhookIDs...)
		accounts[i], types[i], data[i], tests[i] = e.AccountID, e.Type, e.Data, e.Test
		occurred[i], keys[i] = nullTime(e.OccurredAt), nullText(e.Key)
		if e.Key != "" {
			hashes[i] = e.Hash
		}
		upto[i], counts[i], matched[i] = int32(len(hooks)), int32(len(e.WebhookIDs)), int32(e.Matched)
		tails[i] = int64(e.Tail & (1<<fanfare.TailBits - 1))
		if e.Destinations != nil {
			if more == nil {
				destinations, more = make([][]byte, n), make([]int32, n)
			}
			hooks = append(hooks, e.DestinationIDs...)
			destinations[i], more[i] = e.Destinations, int32(len(e.DestinationIDs))
		}
	}
	var (
		c    Committed
		base *int64
		done []uuid.UUID
	)
	err := s.ingest.QueryRow(ctx, ingestStatement(), g.Accounts, g.RegistryVersion, g.Node, int64(g.Floor), n, int64(g.Ceiling),
		accounts, types, data, occurred, keys, hashes, upto, counts, hooks, matched, tests, tails, g.ID,
		destinations, more).
		Scan(&base, &c.Stale, &c.Alive, &done)
	if err != nil {
		return nil, fmt.Errorf("commit %d events: %w", n, err)
	}
	if base == nil {
		c.Beyond = c.Alive && len(c.Stale) == 0
		return &c, nil
	}
	c.Base = fanfare.Position(*base)
	isNew := make(map[uuid.UUID]bool, len(done))
	for _, id := range done {
		isNew[id] = true
	}
	c.Inserted = make([]bool, n)
	for i := range g.Events {
		c.Inserted[i] = g.Events[i].Key == "" || isNew[c.ID(g, i)]
	}
	return &c, nil
}

// ID is the id of the group's event i.
func (c *Committed) ID(g *Group, i int) uuid.UUID {
	return fanfare.EventID(c.Base+1+fanfare.Position(i), g.Events[i].Tail)
}

// FirstAnswer is what the first publish under an idempotency key was told.
type FirstAnswer struct {
	EventID uuid.UUID
	Hash    []byte
	Matched int
}

// KeyRef names an idempotency key.
type KeyRef struct {
	AccountID uuid.UUID
	Key       string
}

const firstAnswersSQL = `
SELECT k.account_id, k.key, k.event_id, k.request_hash, coalesce(e.matched, 0)
FROM unnest($1::uuid[], $2::text[]) AS u (account_id, key)
JOIN idempotency_keys k ON k.account_id = u.account_id AND k.key = u.key
LEFT JOIN events e ON e.account_id = k.account_id AND e.id = k.event_id`

// FirstAnswers reads what was answered under keys. A key that is unknown is missing in the result.
func (s *Store) FirstAnswers(ctx context.Context, keys []KeyRef) (map[KeyRef]FirstAnswer, error) {
	accounts, names := make([]uuid.UUID, len(keys)), make([]string, len(keys))
	for i, k := range keys {
		accounts[i], names[i] = k.AccountID, k.Key
	}
	rows, err := s.pool.Query(ctx, firstAnswersSQL, accounts, names)
	if err != nil {
		return nil, fmt.Errorf("read first answers: %w", err)
	}
	found := make(map[KeyRef]FirstAnswer, len(keys))
	var k KeyRef
	var a FirstAnswer
	_, err = pgx.ForEachRow(rows, []any{&k.AccountID, &k.Key, &a.EventID, &a.Hash, &a.Matched}, func() error {
		found[k] = a
		a.Hash = nil
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("read first answers: %w", err)
	}
	return found, nil
}

const purgeKeysSQL = `
DELETE FROM idempotency_keys
WHERE ctid = ANY (ARRAY(SELECT ctid FROM idempotency_keys WHERE event_id < $1 LIMIT $2 FOR UPDATE SKIP LOCKED))`

// PurgeKeys forgets the idempotency keys of events older than before. It does so in small lots: the
// commit of an event whose key is just being forgotten waits for the end of the lot, and every other
// commit waits behind it.
func (s *Store) PurgeKeys(ctx context.Context, before time.Time) (purged int64, err error) {
	const lot = 2000
	for {
		tag, err := s.engine.Exec(ctx, purgeKeysSQL, fanfare.EventID(fanfare.PositionAt(before), 0), lot)
		if err != nil {
			return purged, fmt.Errorf("purge idempotency keys: %w", err)
		}
		if purged += tag.RowsAffected(); tag.RowsAffected() < lot {
			return purged, nil
		}
	}
}
