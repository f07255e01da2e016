package dispatcher

import (
	"context"
	"time"

	"github.com/google/uuid"

	"github.com/fanfare-webhooks/fanfare"
	"github.com/fanfare-webhooks/fanfare/internal/egress"
	"github.com/fanfare-webhooks/fanfare/internal/store"
)

// Log is the database as a dispatcher needs it: a [store.Store]. Each method is one transaction or none, and
// its error leaves open whether that was committed, unless it says more. What "flushed" says is on disk and
// survives a crash of Postgres; anything else that a method wrote may be lost by one, but never a
// transaction without all that were committed after it.
type Log interface {
	commitLog
	recordLog
	claimLog
	leaseLog
	recoverLog
	upkeepLog
}

// Receivers are the world outside: an [egress.Client].
type Receivers interface {
	// Do makes one attempt. It returns by the request's deadline or soon after ctx ends, and what came back
	// is no error.
	Do(ctx context.Context, r *egress.Request) egress.Result
}

// commitLog is what commit.go and publish.go need.
type commitLog interface {
	// Ingest adds a group to the log, whole or not at all, but for events whose idempotency key is known. It
	// does so only if the group's node holds its lease and none of the group's accounts has changed since
	// the snapshot that it was matched against. Positions rise in the order in which groups become visible.
	// Flushed.
	Ingest(ctx context.Context, g *store.Group) (*store.Committed, error)
	// FirstAnswers reads what the first publish under each key was told. It sees every commit that ended
	// before the call.
	FirstAnswers(ctx context.Context, keys []store.KeyRef) (map[store.KeyRef]store.FirstAnswer, error)
}

// recordLog is what record.go and send.go need.
type recordLog interface {
	// RecordOrHalve writes a lot. Attempts are facts: they are written whoever owns their delivery, each
	// once. What changes a delivery's state is written only if lot.Owner still owns the delivery's group or
	// its row of retries. So a lot may be repeated, and one that comes late changes no state. What Postgres
	// refuses goes to reject, and the rest is written. The error is [store.ErrSession] if another session than
	// the lot's writes by now. Not flushed.
	RecordOrHalve(ctx context.Context, lot *store.Lot, reject func(*store.Outcome, error)) error
	// RecorderSession is the session that writes lots now. A crash of Postgres ends it.
	RecorderSession(ctx context.Context) (store.Session, error)
	// DisableWebhook switches a webhook off for what happened at url, and says whether it was on. The error
	// is [store.ErrVersion] if it has another URL by now. Flushed.
	DisableWebhook(ctx context.Context, id uuid.UUID, url string, d fanfare.Disabled) (changed bool, err error)
}

// claimLog is what claim.go and send.go need.
type claimLog interface {
	// Claim makes free retries that are due the node's, the longest due first, and says when each of the
	// webhooks has its next free one. No two nodes get the same, and a dead one gets none. Flushed.
	Claim(ctx context.Context, node uuid.UUID, wants []store.Want) ([]store.Retry, map[uuid.UUID]time.Time, error)
	// DueWebhooks says of every webhook with free retries when its earliest is due.
	DueWebhooks(ctx context.Context) (map[uuid.UUID]time.Time, error)
	// EventsByID reads events, those beyond maxBytes without their data. One that is unknown or expunged is missing.
	EventsByID(ctx context.Context, ids []uuid.UUID, maxBytes int64) (map[uuid.UUID]*fanfare.Event, error)
}

// leaseLog is what node.go needs. Times are the database's.
type leaseLog interface {
	// Join makes a new incarnation with a lease of term. Flushed.
	Join(ctx context.Context, id uuid.UUID, name string, term time.Duration) error
	// Renew makes the lease last for term from now. The error is [store.ErrDead] for an incarnation that was
	// marked dead; that never changes again. Flushed.
	Renew(ctx context.Context, id uuid.UUID, term time.Duration) (store.Lease, error)
	// MarkDead marks every other incarnation whose lease has run out or lasts for longer than any can, if me's
	// own was renewed just now by the same clock. Flushed.
	MarkDead(ctx context.Context, me uuid.UUID, term time.Duration) ([]uuid.UUID, error)
	// Leave ends an incarnation. What it still owns is as good as a dead one's. Flushed.
	Leave(ctx context.Context, id uuid.UUID) error
}

// recoverLog is what recover.go needs. An orphan is what is owned by an incarnation that is dead or has left.
type recoverLog interface {
	// TakeGroups makes up to limit orphaned groups me's, the oldest first, and counts a takeover. No two
	// nodes get the same. Flushed.
	TakeGroups(ctx context.Context, me uuid.UUID, limit int) ([]store.OpenGroup, error)
	// RetakeGroups counts a takeover of those of the groups that are me's already. Flushed.
	RetakeGroups(ctx context.Context, me uuid.UUID, ids []uuid.UUID) ([]store.OpenGroup, error)
	// Owed reads the deliveries of a group that have neither ended nor a row of retries.
	Owed(ctx context.Context, g store.OpenGroup) ([]store.Owed, error)
	// Mine lists everything that me owns.
	Mine(ctx context.Context, me uuid.UUID) (store.Mine, error)
	// FreeRetries gives those of the rows free that me owns. Flushed.
	FreeRetries(ctx context.Context, me uuid.UUID, refs []store.RetryRef) error
	// FreeOrphans gives up to limit orphaned retries free, counts a takeover of each, and says when their
	// webhooks have one due. done is false while more may be left. Flushed.
	FreeOrphans(ctx context.Context, limit int) (due map[uuid.UUID]time.Time, done bool, err error)
}

// upkeepLog is what upkeep.go, health.go and metrics.go need. All of it may be repeated.
type upkeepLog interface {
	// EnsurePartitions makes the log's partitions, and answers the position at which the newest one ends.
	EnsurePartitions(ctx context.Context, ahead time.Duration) (fanfare.Position, error)
	// RaiseHorizon ends what is still owed of events older than before.
	RaiseHorizon(ctx context.Context, before time.Time) (store.Ended, error)
	// DropPartitions removes what is below a horizon that was raised long ago.
	DropPartitions(ctx context.Context) (dropped int, err error)
	// The purges forget what is kept for a day.
	PurgeKeys(ctx context.Context, before time.Time) (int64, error)
	PurgeReplies(ctx context.Context, keep time.Duration) (int64, error)
	PurgeRegistryChanges(ctx context.Context, keep time.Duration) (int64, error)
	PurgeHealth(ctx context.Context, before time.Time) (int, error)
	PurgeNodes(ctx context.Context) error
	// Backlog counts what waits.
	Backlog(ctx context.Context) (store.Backlog, error)
	// WriteHealth puts rows in place of those of the same webhook, minute and node, unless these say as
	// much or more. Not flushed.
	WriteHealth(ctx context.Context, rows []store.HealthRow) error
	// Statements is how many statements were sent.
	Statements() int64
}
