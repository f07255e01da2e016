package store

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/fanfare-webhooks/fanfare"
)

const webhookColumns = `id, account_id, version, name, url, event_types, include_subaccounts, timeout_ms, retry_schedule_ms,
	max_in_flight, rate_count, rate_per_ms, metadata, disabled_by, disabled_reason, disabled_at, created_at, updated_at,
	modifiers, filter, filter_canonical, options, disabled_evidence, notification_emails, health_policy, health_from`

func scanWebhook(row pgx.Row, w *fanfare.Webhook) error {
	var (
		timeout    int64
		schedule   []int64
		count      *int
		per        *int64
		by, reason *string
		at, from   *time.Time
		evidence   *string
		care       fanfare.Care
		wishes     fanfare.Wishes
		canonical  *string
		options    []byte
	)
	err := row.Scan(&w.ID, &w.AccountID, &w.Version, &w.Name, &w.URL, &w.EventTypes, &w.IncludeSubaccounts, &timeout, &schedule,
		&w.MaxInFlight, &count, &per, &w.Metadata, &by, &reason, &at, &w.CreatedAt, &w.UpdatedAt,
		&wishes.Modifiers, &wishes.Filter, &canonical, &options, &evidence, &care.Emails, &care.Policy, &from)
	if err != nil {
		return err
	}
	if w.Options, err = readOptions(options); err != nil {
		return fmt.Errorf("webhook %s: %w", w.ID, err)
	}
	w.Timeout = time.Duration(timeout) * time.Millisecond
	w.RetrySchedule = make([]time.Duration, len(schedule))
	for i, ms := range schedule {
		w.RetrySchedule[i] = time.Duration(ms) * time.Millisecond
	}
	w.RateLimit = fanfare.RateLimit{Count: deref(count), Per: time.Duration(deref(per)) * time.Millisecond}
	if canonical != nil {
		wishes.Canonical = []byte(*canonical)
	}
	if w.Wishes = nil; wishes.Modifiers != nil || canonical != nil {
		w.Wishes = &wishes
	}
	w.Disabled = nil
	if by != nil {
		w.Disabled = &fanfare.Disabled{By: *by, Reason: deref(reason), At: *at, Evidence: deref(evidence)}
	}
	care.From = deref(from)
	if w.Care = nil; len(care.Emails) > 0 || care.Policy != nil || !care.From.IsZero() {
		w.Care = &care
	}
	return nil
}

// webhookValues are the parameters of the statements that write a webhook.
func webhookValues(w *fanfare.Webhook) []any {
	schedule := make([]int64, len(w.RetrySchedule))
	for i, d := range w.RetrySchedule {
		schedule[i] = d.Milliseconds()
	}
	var count *int
	var per *int64
	if l := w.RateLimit; l.Count > 0 {
		ms := l.Per.Milliseconds()
		count, per = &l.Count, &ms
	}
	var by, reason *string
	var at *time.Time
	var evidence *string
	if d := w.Disabled; d != nil {
		by, reason, at, evidence = &d.By, &d.Reason, nullTime(d.At), nullText(d.Evidence)
	}
	wishes, care := deref(w.Wishes), deref(w.Care)
	return []any{
		w.AccountID, w.ID, w.Name, w.URL, w.EventTypes, w.IncludeSubaccounts, w.Timeout.Milliseconds(), schedule,
		w.MaxInFlight, count, per, jsonObject(w.Metadata), by, reason, at, wishes.Modifiers, wishes.Filter, nullText(string(wishes.Canonical)),
		writeOptions(w.Options), evidence, nullTexts(care.Emails), care.Policy,
	}
}

// CreateWebhook stores w under the id it has, with the secret that signs for it, and fills in its
// version and times. The error is [ErrNotFound] if its account does not exist, [ErrTooMany] if that
// holds maxPerAccount webhooks, [ErrNoEventType] if an exact name of EventTypes is not in the catalog, an
// [*ArchivedError] if it is archived.
func (s *Store) CreateWebhook(ctx context.Context, w *fanfare.Webhook, secret SealedSecret, maxPerAccount int, once *Once) error {
	spec := changeSpec{doing: "create a webhook", accounts: []uuid.UUID{w.AccountID}, once: once}
	return s.change(ctx, spec, func(ctx context.Context, c *change) error {
		if w.AccountID == fanfare.PlatformAccount {
			return ErrNotFound
		}
		var full bool
		err := c.QueryRow(ctx, `
SELECT count(*) >= $2 FROM (SELECT FROM webhooks WHERE account_id = $1 AND deleted_at IS NULL LIMIT $2) w`,
			w.AccountID, maxPerAccount).Scan(&full)
		if err == nil && full {
			err = ErrTooMany
		}
		if err != nil {
			return err
		}
		if err := c.holdEventTypes(ctx, w.EventTypes, nil); err != nil {
			return err
		}
		row := c.QueryRow(ctx, `
INSERT INTO webhooks (account_id, id, name, url, event_types, include_subaccounts, timeout_ms, retry_schedule_ms, max_in_flight,
	rate_count, rate_per_ms, metadata, disabled_by, disabled_reason, disabled_at, modifiers, filter, filter_canonical, options,
	disabled_evidence, notification_emails, health_policy)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, CASE WHEN $13::text IS NOT NULL THEN coalesce($15, now()) END,
	$16, $17, $18, $19, $20, $21, $22)
RETURNING `+webhookColumns, webhookValues(w)...)
		if err := scanWebhook(row, w); err != nil {
			return err
		}
		if err := c.insertSecret(ctx, w.AccountID, w.ID, secret); err != nil {
			return err
		}
		c.raise(ChangeWebhook, w.AccountID, w.ID, "")
		c.tell(fanfare.EventWebhookCreated, w)
		return nil
	})
}

// ArchivedError says which event types a webhook cannot begin to name.
type ArchivedError struct{ Names []string }

func (e *ArchivedError) Error() string {
	return "these event types are archived: " + strings.Join(e.Names, ", ")
}

// holdEventTypes keeps the event types that patterns name exactly in the catalog until the transaction
// ends. The error is [ErrNoEventType], or an [*ArchivedError] if any that is not in had is archived.
func (c *change) holdEventTypes(ctx context.Context, patterns, had []string) error {
	var names []string
	for _, p := range patterns {
		if !strings.HasSuffix(p, "*") && !slices.Contains(names, p) {
			names = append(names, p)
		}
	}
	if len(names) == 0 {
		return nil
	}
	rows, err := c.Query(ctx, `SELECT name, archived FROM event_types WHERE name = ANY ($1) ORDER BY name FOR KEY SHARE`, names)
	if err != nil {
		return err
	}
	var (
		name     string
		archived bool
		refused  []string
	)
	tag, err := pgx.ForEachRow(rows, []any{&name, &archived}, func() error {
		if archived && !slices.Contains(had, name) {
			refused = append(refused, name)
		}
		return nil
	})
	switch {
	case err != nil:
		return err
	case int(tag.RowsAffected()) != len(names):
		return ErrNoEventType
	case refused != nil:
		return &ArchivedError{refused}
	}
	return nil
}

// Webhook reads a webhook of an account. The error is [ErrNotFound].
func (s *Store) Webhook(ctx context.Context, account, id uuid.UUID) (*fanfare.Webhook, error) {
	var w fanfare.Webhook
	err := scanWebhook(s.pool.QueryRow(ctx, `
SELECT `+webhookColumns+` FROM webhooks WHERE account_id = $1 AND id = $2 AND deleted_at IS NULL`, account, id), &w)
	if errors.Is(err, pgx.ErrNoRows) {
		err = ErrNotFound
	}
	if err != nil {
		return nil, fmt.Errorf("read a webhook: %w", err)
	}
	return &w, nil
}

// Webhooks lists an account's own webhooks, newest first.
func (s *Store) Webhooks(ctx context.Context, account uuid.UUID, p Page) ([]fanfare.Webhook, error) {
	rows, err := s.pool.Query(ctx, `
SELECT `+webhookColumns+` FROM webhooks WHERE account_id = $1 AND deleted_at IS NULL AND id < $2 ORDER BY id DESC LIMIT $3`,
		account, p.before(), p.Limit)
	list, err := collect(rows, err, scanWebhook)
	if err != nil {
		return nil, fmt.Errorf("list webhooks: %w", err)
	}
	return list, nil
}

// UpdateWebhook lets edit change a webhook and stores it as a new version; its id, account, version and
// times are not edit's to change, but for the time of a Disabled, which is now if it is zero. What edit
// was given is completed and answered. edit's error is answered as it is and nothing is stored. The
// error is [ErrNotFound], [ErrVersion] if ifMatch is not 0 and not the webhook's version,
// [ErrNoEventType], or an [*ArchivedError] for names that it did not have before.
func (s *Store) UpdateWebhook(ctx context.Context, account, id uuid.UUID, ifMatch int64, once *Once,
	edit func(*fanfare.Webhook) error,
) (*fanfare.Webhook, error) {
	w := new(fanfare.Webhook)
	spec := changeSpec{doing: "change a webhook", accounts: []uuid.UUID{account}, once: once}
	err := s.change(ctx, spec, func(ctx context.Context, c *change) error {
		if err := c.lockWebhook(ctx, account, id, ifMatch, w); err != nil {
			return err
		}
		patterns, before := slices.Clone(w.EventTypes), w.Disabled
		if err := edit(w); err != nil {
			return refused{err}
		}
		w.AccountID, w.ID = account, id
		if !slices.Equal(patterns, w.EventTypes) {
			if err := c.holdEventTypes(ctx, w.EventTypes, patterns); err != nil {
				return err
			}
		}
		row := c.QueryRow(ctx, `
UPDATE webhooks SET name = $3, url = $4, event_types = $5, include_subaccounts = $6, timeout_ms = $7, retry_schedule_ms = $8,
	max_in_flight = $9, rate_count = $10, rate_per_ms = $11, metadata = $12, disabled_by = $13, disabled_reason = $14,
	disabled_at = CASE WHEN $13::text IS NOT NULL THEN coalesce($15, now()) END, modifiers = $16, filter = $17, filter_canonical = $18,
	options = $19, disabled_evidence = $20, notification_emails = $21, health_policy = $22,
	health_from = CASE WHEN url <> $4 OR disabled_by IS NOT NULL AND $13::text IS NULL THEN clock_timestamp() ELSE health_from END,
	version = version + 1, updated_at = clock_timestamp()
WHERE account_id = $1 AND id = $2
RETURNING `+webhookColumns, webhookValues(w)...)
		if err := scanWebhook(row, w); err != nil {
			return err
		}
		c.raise(ChangeWebhook, account, id, "")
		switch is, was := w.Disabled != nil, before != nil; {
		case is && !was:
			c.tell(fanfare.EventWebhookDisabled, w)
		case was && !is:
			c.tell(fanfare.EventWebhookEnabled, w)
			return c.mailEnabled(ctx, w, before)
		default:
			c.tell(fanfare.EventWebhookUpdated, w)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return w, nil
}

// lockWebhook reads a webhook of an account that is locked already, and with it all its webhooks.
func (c *change) lockWebhook(ctx context.Context, account, id uuid.UUID, ifMatch int64, w *fanfare.Webhook) error {
	err := scanWebhook(c.QueryRow(ctx, `
SELECT `+webhookColumns+` FROM webhooks WHERE account_id = $1 AND id = $2 AND deleted_at IS NULL`, account, id), w)
	switch {
	case errors.Is(err, pgx.ErrNoRows):
		return ErrNotFound
	case err != nil:
		return err
	case ifMatch != 0 && w.Version != ifMatch:
		return ErrVersion
	}
	return nil
}

// DeleteWebhook deletes a webhook and what signs for it. Its row stays, marked as deleted. The error is
// [ErrNotFound], or [ErrVersion] if ifMatch is not 0 and not the webhook's version.
func (s *Store) DeleteWebhook(ctx context.Context, account, id uuid.UUID, ifMatch int64) error {
	spec := changeSpec{doing: "delete a webhook", accounts: []uuid.UUID{account}}
	return s.change(ctx, spec, func(ctx context.Context, c *change) error {
		var w fanfare.Webhook
		if err := c.lockWebhook(ctx, account, id, ifMatch, &w); err != nil {
			return err
		}
		var b pgx.Batch
		b.Queue(`UPDATE webhooks SET deleted_at = now(), updated_at = now(), version = version + 1 WHERE account_id = $1 AND id = $2
RETURNING `+webhookColumns, account, id).QueryRow(func(row pgx.Row) error { return scanWebhook(row, &w) })
		b.Queue(`DELETE FROM webhook_secrets WHERE account_id = $1 AND webhook_id = $2`, account, id)
		b.Queue(`DELETE FROM webhook_mails WHERE account_id = $1 AND webhook_id = $2`, account, id)
		if err := c.SendBatch(ctx, &b).Close(); err != nil {
			return err
		}
		c.raise(ChangeWebhook, account, id, "")
		c.tell(fanfare.EventWebhookDeleted, &w)
		return nil
	})
}

// DisableWebhook disables a webhook for what happened at url, now if d.At is zero. It changes nothing if
// the webhook is disabled already or deleted. If it has another URL by now the error is [ErrVersion].
func (s *Store) DisableWebhook(ctx context.Context, id uuid.UUID, url string, d fanfare.Disabled) (changed bool, err error) {
	var account uuid.UUID
	var now string
	err = s.pool.QueryRow(ctx, `SELECT account_id, url FROM webhooks WHERE id = $1 AND deleted_at IS NULL AND disabled_by IS NULL`, id).
		Scan(&account, &now)
	if errors.Is(err, pgx.ErrNoRows) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("disable a webhook: %w", err)
	}
	if now != url {
		return false, ErrVersion
	}
	spec := changeSpec{doing: "disable a webhook", accounts: []uuid.UUID{account}}
	err = s.change(ctx, spec, func(ctx context.Context, c *change) error {
		var w fanfare.Webhook
		err := scanWebhook(c.QueryRow(ctx, `
UPDATE webhooks SET disabled_by = $3, disabled_reason = $4, disabled_at = coalesce($5, now()), disabled_evidence = $7,
	version = version + 1, updated_at = clock_timestamp()
WHERE account_id = $1 AND id = $2 AND deleted_at IS NULL AND disabled_by IS NULL AND url = $6
RETURNING `+webhookColumns, account, id, d.By, d.Reason, nullTime(d.At), url, nullText(d.Evidence)), &w)
		if errors.Is(err, pgx.ErrNoRows) {
			return nil
		}
		if err != nil {
			return err
		}
		changed = true
		c.raise(ChangeWebhook, account, id, "")
		c.tell(fanfare.EventWebhookDisabled, &w)
		body := MailBody{WebhookID: w.ID, At: w.Disabled.At, By: d.By, Evidence: json.RawMessage(d.Evidence)}
		return c.oweMail(ctx, &w, OwedMail{MailDisabled, body.JSON()})
	})
	if errors.Is(err, ErrNotFound) { // the account was deleted meanwhile, and the webhook with it
		return false, nil
	}
	return changed && err == nil, err
}

func deref[T any](p *T) T {
	var zero T
	if p == nil {
		return zero
	}
	return *p
}

// SealedSecret is a signing secret as it is kept: sealed by whoever made it.
type SealedSecret struct {
	ID        uuid.UUID
	Sealed    []byte
	CreatedAt time.Time // by the database's clock; the newest secret is the current one
	ExpiresAt time.Time // zero: does not expire
}

// maxSecrets is how many secrets may sign for a webhook, or an account's one-off destinations, at once: each adds to the header of every
// request.
const maxSecrets = 10

// The newest secret is the current one, whatever clocks do.
const insertSecretSQL = `
INSERT INTO webhook_secrets (account_id, webhook_id, id, sealed, created_at)
VALUES ($1, $2, $3, $4, greatest(clock_timestamp(), (
	SELECT max(created_at) + interval '1 microsecond' FROM webhook_secrets WHERE account_id = $1 AND webhook_id = $2
)))`

func (c *change) insertSecret(ctx context.Context, account, webhook uuid.UUID, secret SealedSecret) error {
	_, err := c.Exec(ctx, insertSecretSQL, account, webhook, secret.ID, secret.Sealed)
	return err
}

// WebhookSecrets lists the secrets that sign for a webhook now, by the database's clock, newest first.
// The error is [ErrNotFound] if there is no such webhook.
func (s *Store) WebhookSecrets(ctx context.Context, account, id uuid.UUID) ([]SealedSecret, error) {
	rows, err := s.pool.Query(ctx, `
SELECT s.id, s.sealed, s.created_at, s.expires_at FROM webhooks w JOIN webhook_secrets s ON s.webhook_id = w.id
WHERE w.account_id = $1 AND w.id = $2 AND w.deleted_at IS NULL AND (s.expires_at IS NULL OR s.expires_at > clock_timestamp())
ORDER BY s.created_at DESC`, account, id)
	list, err := collect(rows, err, scanSecret)
	if err == nil && len(list) == 0 { // a webhook always has a current one
		err = ErrNotFound
	}
	if err != nil {
		return nil, fmt.Errorf("read a webhook's secrets: %w", err)
	}
	return list, nil
}

func scanSecret(row pgx.Row, s *SealedSecret) error {
	var expires *time.Time
	err := row.Scan(&s.ID, &s.Sealed, &s.CreatedAt, &expires)
	s.ExpiresAt = deref(expires)
	return err
}

// RotateWebhookSecret makes next the current secret of a webhook. The others sign too for overlap from
// now, but none longer than it would have. The error is [ErrNotFound], or [ErrTooMany] if too many
// secrets sign already.
func (s *Store) RotateWebhookSecret(ctx context.Context, account, id uuid.UUID, next SealedSecret, overlap time.Duration, once *Once) error {
	spec := changeSpec{doing: "rotate a webhook's secret", accounts: []uuid.UUID{account}, once: once}
	return s.change(ctx, spec, func(ctx context.Context, c *change) error {
		var w fanfare.Webhook
		if err := c.lockWebhook(ctx, account, id, 0, &w); err != nil {
			return err
		}
		var b pgx.Batch
		b.Queue(`UPDATE webhook_secrets SET expires_at = least(expires_at, clock_timestamp() + $3::interval)
WHERE account_id = $1 AND webhook_id = $2`, account, id, overlap)
		b.Queue(`DELETE FROM webhook_secrets WHERE account_id = $1 AND webhook_id = $2 AND expires_at <= clock_timestamp()`, account, id)
		b.Queue(insertSecretSQL, account, id, next.ID, next.Sealed)
		b.Queue(`SELECT count(*) FROM webhook_secrets WHERE account_id = $1 AND webhook_id = $2`, account, id).
			QueryRow(func(row pgx.Row) error {
				var n int
				err := row.Scan(&n)
				if err == nil && n > maxSecrets {
					err = ErrTooMany
				}
				return err
			})
		b.Queue(`UPDATE webhooks SET version = version + 1, updated_at = clock_timestamp() WHERE account_id = $1 AND id = $2
RETURNING `+webhookColumns, account, id).QueryRow(func(row pgx.Row) error { return scanWebhook(row, &w) })
		if err := c.SendBatch(ctx, &b).Close(); err != nil {
			return err
		}
		c.raise(ChangeWebhook, account, id, "")
		c.tell(fanfare.EventWebhookUpdated, &w)
		return nil
	})
}
