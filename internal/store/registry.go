package store

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/fanfare-webhooks/fanfare"
)

// RegistryChannel is where a change of the registry is told to those who listen. Payloads are empty: it
// is only a hint to ask.
const RegistryChannel = "fanfare_registry"

// RegistryMark names a state of the registry: its newest change. A failover may lose changes and give
// their versions to others, so the version alone does not.
type RegistryMark struct {
	Version int64
	At      time.Time // when the change was made; zero before the first one
}

// RegistryAccount is what a registry knows of an account.
type RegistryAccount struct {
	ID        uuid.UUID
	ParentID  uuid.UUID // nil: a root
	Signature []byte    // of its settings; nil: not set
	Health    []byte    // the health policy of its settings; nil: not set
}

// RegistryKey is a key with the SHA-256 of its text.
type RegistryKey struct {
	fanfare.Key
	Hash [32]byte
}

// RegistrySecret is a secret that signs for a webhook.
type RegistrySecret struct {
	WebhookID uuid.UUID
	SealedSecret
}

// RegistrySigningSecret is a secret that signs an account's one-off destinations.
type RegistrySigningSecret struct {
	AccountID uuid.UUID
	SealedSecret
}

// RegistrySink takes in what is read: accounts first, then webhooks, then secrets, those of one webhook or
// account newest first. Webhooks come without name, metadata and filter (but with its canonical form), event types with
// name, archived, modifiers and schema only.
// Secrets that expired before the reading are left out. Nothing that a sink is given is used again.
type RegistrySink interface {
	// Changed comes first of all, if only changes are read.
	Changed(Changed)
	Account(RegistryAccount)
	EventType(fanfare.EventType)
	Key(RegistryKey)
	Webhook(fanfare.Webhook)
	Secret(RegistrySecret)
	SigningSecret(RegistrySigningSecret)
}

// Changed names what changed between two states. What is named and does not come to the sink after it is
// gone.
type Changed struct {
	Accounts   []uuid.UUID
	EventTypes []string
	KeyOwners  []uuid.UUID // all keys of these accounts come anew; nil: the platform
	Webhooks   []uuid.UUID
}

const registryWebhookColumns = `id, account_id, version, '', url, event_types, include_subaccounts, timeout_ms, retry_schedule_ms,
	max_in_flight, rate_count, rate_per_ms, NULL::json, disabled_by, disabled_reason, disabled_at, created_at, updated_at,
	modifiers, NULL::json, filter_canonical, options, NULL::json, NULL::text[], NULL::json, NULL::timestamptz`

const registryMarkSQL = `
SELECT h.version, c.at FROM registry_head h LEFT JOIN registry_changes c ON c.version = h.version`

// The statements that read the whole registry, in the order of a [RegistrySink].
var loadRegistrySQL = registrySQL{
	accounts: `
SELECT id, parent_id, settings -> 'signature', settings -> 'health_policy' FROM accounts WHERE deleted_at IS NULL AND id <> '00000000-0000-0000-0000-000000000000'`,
	eventTypes: `SELECT name, archived, modifiers, schema FROM event_types`,
	keys:       `SELECT ` + keyColumns + `, hash FROM api_keys`,
	webhooks:   `SELECT ` + registryWebhookColumns + ` FROM webhooks WHERE deleted_at IS NULL`,
	secrets: `
SELECT webhook_id, id, sealed, created_at, expires_at FROM webhook_secrets
WHERE expires_at IS NULL OR expires_at > clock_timestamp() ORDER BY webhook_id, created_at DESC`,
	signing: `
SELECT account_id, id, sealed, created_at, expires_at FROM signing_secrets
WHERE expires_at IS NULL OR expires_at > clock_timestamp() ORDER BY account_id, created_at DESC`,
}

// The statements that read only what changed.
var changedRegistrySQL = registrySQL{
	accounts: `
SELECT id, parent_id, settings -> 'signature', settings -> 'health_policy' FROM accounts WHERE id = ANY ($1) AND deleted_at IS NULL`,
	eventTypes: `SELECT name, archived, modifiers, schema FROM event_types WHERE name = ANY ($1)`,
	keys: `
SELECT ` + keyColumns + `, hash FROM api_keys WHERE account_id = ANY ($1)
UNION ALL
SELECT ` + keyColumns + `, hash FROM api_keys WHERE account_id IS NULL AND '00000000-0000-0000-0000-000000000000' = ANY ($1)`,
	webhooks: `SELECT ` + registryWebhookColumns + ` FROM webhooks WHERE id = ANY ($1) AND deleted_at IS NULL`,
	secrets: `
SELECT webhook_id, id, sealed, created_at, expires_at FROM webhook_secrets
WHERE webhook_id = ANY ($1) AND (expires_at IS NULL OR expires_at > clock_timestamp()) ORDER BY webhook_id, created_at DESC`,
	signing: `
SELECT account_id, id, sealed, created_at, expires_at FROM signing_secrets
WHERE account_id = ANY ($1) AND (expires_at IS NULL OR expires_at > clock_timestamp()) ORDER BY account_id, created_at DESC`,
}

type registrySQL struct{ accounts, eventTypes, keys, webhooks, secrets, signing string }

// RegistryHead answers the registry's present state. It is one cheap statement.
func (s *Store) RegistryHead(ctx context.Context) (RegistryMark, error) {
	m, err := readMark(s.sync.QueryRow(ctx, registryMarkSQL))
	if err != nil {
		return m, fmt.Errorf("read the registry's version: %w", err)
	}
	return m, nil
}

func readMark(row pgx.Row) (m RegistryMark, err error) {
	var at *time.Time
	err = row.Scan(&m.Version, &at)
	m.At = deref(at)
	return m, err
}

// LoadRegistry reads the whole registry, in one state of the database, which it answers.
func (s *Store) LoadRegistry(ctx context.Context, sink RegistrySink) (RegistryMark, error) {
	var m RegistryMark
	err := s.readRegistry(ctx, func(tx pgx.Tx) (err error) {
		if m, err = readMark(tx.QueryRow(ctx, registryMarkSQL)); err != nil {
			return err
		}
		return loadRegistrySQL.read(ctx, tx, sink, nil)
	})
	if err != nil {
		return m, fmt.Errorf("load the registry: %w", err)
	}
	return m, nil
}

// RegistryChanges reads what changed since a state, and answers the state that it leads to. ok is false
// if that cannot be told, because the changes are not kept any more or since was never a state of this
// database; then the sink got nothing, and everything has to be loaded.
func (s *Store) RegistryChanges(ctx context.Context, since RegistryMark, sink RegistrySink) (m RegistryMark, ok bool, err error) {
	err = s.readRegistry(ctx, func(tx pgx.Tx) (err error) {
		if m, err = readMark(tx.QueryRow(ctx, registryMarkSQL)); err != nil {
			return err
		}
		var c Changed
		if c, ok, err = readChanged(ctx, tx, since, m); err != nil || !ok {
			return err
		}
		sink.Changed(c)
		return changedRegistrySQL.read(ctx, tx, sink, &c)
	})
	if err != nil {
		return m, false, fmt.Errorf("read the registry's changes: %w", err)
	}
	return m, ok, nil
}

// readRegistry runs read in a transaction that sees one state of the database.
func (s *Store) readRegistry(ctx context.Context, read func(pgx.Tx) error) error {
	options := pgx.TxOptions{IsoLevel: pgx.RepeatableRead, AccessMode: pgx.ReadOnly}
	return pgx.BeginTxFunc(ctx, s.sync, options, func(tx pgx.Tx) error {
		// A million webhooks take their time.
		if _, err := tx.Exec(ctx, `SET LOCAL statement_timeout = '5min'`); err != nil {
			return err
		}
		return read(tx)
	})
}

// readChanged collects the changes after since. ok says that there is no gap: since is still on record,
// and so is every version between it and now.
func readChanged(ctx context.Context, tx pgx.Tx, since, now RegistryMark) (c Changed, ok bool, err error) {
	rows, err := tx.Query(ctx, `
SELECT version, kind, account_id, object_id, name, at FROM registry_changes WHERE version >= $1`, since.Version)
	if err != nil {
		return c, false, err
	}
	var (
		version int64
		kind    ChangeKind
		account uuid.UUID
		object  *uuid.UUID
		name    *string
		at      time.Time
		missing = now.Version - since.Version + 1 // rows from since to now; none if the database went back
		known   = now.Version >= since.Version
	)
	if since.Version == 0 { // the state before the first change is no row
		missing--
	}
	_, err = pgx.ForEachRow(rows, []any{&version, &kind, &account, &object, &name, &at}, func() error {
		missing--
		if version == since.Version {
			known = known && at.Equal(since.At)
			return nil
		}
		switch kind {
		case ChangeAccount:
			c.Accounts = append(c.Accounts, account)
		case ChangeEventType:
			c.EventTypes = append(c.EventTypes, deref(name))
		case ChangeKey:
			c.KeyOwners = append(c.KeyOwners, account)
		case ChangeWebhook:
			c.Webhooks = append(c.Webhooks, deref(object))
		}
		return nil
	})
	for _, ids := range []*[]uuid.UUID{&c.Accounts, &c.KeyOwners, &c.Webhooks} {
		slices.SortFunc(*ids, func(a, b uuid.UUID) int { return slices.Compare(a[:], b[:]) })
		*ids = slices.Compact(*ids)
	}
	slices.Sort(c.EventTypes)
	c.EventTypes = slices.Compact(c.EventTypes)
	return c, err == nil && known && missing == 0, err
}

// read gives a sink everything, or what changed.
func (q *registrySQL) read(ctx context.Context, tx pgx.Tx, sink RegistrySink, changed *Changed) error {
	r := registryReader{tx: tx, everything: changed == nil}
	if changed == nil {
		changed = new(Changed)
	}
	each(ctx, &r, q.accounts, changed.Accounts, scanRegistryAccount, sink.Account)
	each(ctx, &r, q.eventTypes, changed.EventTypes, scanRegistryEventType, sink.EventType)
	each(ctx, &r, q.keys, changed.KeyOwners, scanRegistryKey, sink.Key)
	each(ctx, &r, q.webhooks, changed.Webhooks, scanWebhook, sink.Webhook)
	each(ctx, &r, q.secrets, changed.Webhooks, scanRegistrySecret, sink.Secret)
	each(ctx, &r, q.signing, changed.Accounts, scanRegistrySigningSecret, sink.SigningSecret)
	return r.err
}

type registryReader struct {
	tx         pgx.Tx
	everything bool
	err        error // the first one; nothing is read after it
}

// each streams the rows of a statement into a sink. The statement's parameter is the names of what
// changed; one that reads everything has none.
func each[T, K any](ctx context.Context, r *registryReader, sql string, names []K, scan func(pgx.Row, *T) error, sink func(T)) {
	var args []any
	if !r.everything {
		args = []any{names}
	}
	if r.err != nil || !r.everything && len(names) == 0 {
		return
	}
	rows, err := r.tx.Query(ctx, sql, args...)
	if err != nil {
		r.err = err
		return
	}
	defer rows.Close()
	for rows.Next() {
		var v T
		if r.err = scan(rows, &v); r.err != nil {
			return
		}
		sink(v)
	}
	r.err = rows.Err()
}

func scanRegistryAccount(row pgx.Row, a *RegistryAccount) error {
	var parent uuid.NullUUID
	err := row.Scan(&a.ID, &parent, &a.Signature, &a.Health)
	a.ParentID = parent.UUID
	return err
}

func scanRegistryEventType(row pgx.Row, t *fanfare.EventType) error {
	return row.Scan(&t.Name, &t.Archived, &t.Modifiers, &t.Schema)
}

func scanRegistryKey(row pgx.Row, k *RegistryKey) error {
	var hash []byte
	err := row.Scan(&k.ID, &k.AccountID, &k.Name, &k.Hint, &k.Scopes, &k.CreatedAt, &hash)
	copy(k.Hash[:], hash)
	return err
}

func scanRegistrySecret(row pgx.Row, s *RegistrySecret) error {
	var expires *time.Time
	err := row.Scan(&s.WebhookID, &s.ID, &s.Sealed, &s.CreatedAt, &expires)
	s.ExpiresAt = deref(expires)
	return err
}

func scanRegistrySigningSecret(row pgx.Row, s *RegistrySigningSecret) error {
	var expires *time.Time
	err := row.Scan(&s.AccountID, &s.ID, &s.Sealed, &s.CreatedAt, &expires)
	s.ExpiresAt = deref(expires)
	return err
}

// PurgeRegistryChanges forgets changes that are older than keep and says how many. A node that was away
// for longer loads everything. The newest change always stays: it names the present state.
func (s *Store) PurgeRegistryChanges(ctx context.Context, keep time.Duration) (int64, error) {
	tag, err := s.pool.Exec(ctx, `
DELETE FROM registry_changes WHERE at < clock_timestamp() - $1::interval AND version < (SELECT version FROM registry_head)`, keep)
	if err != nil {
		return 0, fmt.Errorf("purge the registry's changes: %w", err)
	}
	return tag.RowsAffected(), nil
}

// Listen calls onNotify once when it listens to a channel, and then for each notification, on a
// connection of its own. It returns when ctx ends or the connection is lost, always with an error.
func (s *Store) Listen(ctx context.Context, channel string, onNotify func()) error {
	conn, err := pgx.ConnectConfig(ctx, s.sync.Config().ConnConfig)
	if err != nil {
		return fmt.Errorf("listen to %s: %w", channel, err)
	}
	defer func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
		defer cancel()
		_ = conn.Close(ctx)
	}()
	if _, err := conn.Exec(ctx, `LISTEN `+pgx.Identifier{channel}.Sanitize()); err != nil {
		return fmt.Errorf("listen to %s: %w", channel, err)
	}
	for {
		onNotify()
		if _, err := conn.WaitForNotification(ctx); err != nil {
			return fmt.Errorf("listen to %s: %w", channel, err)
		}
	}
}
