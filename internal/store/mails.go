package store

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/fanfare-webhooks/fanfare"
)

// MailKind says what a mail is about.
type MailKind string

// The kinds of mail. Of each there is at most one a day for a webhook.
const (
	MailWarning   MailKind = "warning"   // it fails, and will be disabled
	MailDisabled  MailKind = "disabled"  // it was disabled
	MailEnabled   MailKind = "enabled"   // it was enabled again
	MailExhausted MailKind = "exhausted" // deliveries were given up
)

// MailBody is what a mail is about, besides the webhook: how a row of the outbox keeps it.
type MailBody struct {
	WebhookID uuid.UUID       `json:"webhook_id"`
	At        time.Time       `json:"at"`
	Evidence  json.RawMessage `json:"evidence,omitempty"`
	By        string          `json:"by,omitempty"`    // of [MailDisabled]: as [fanfare.Disabled] has it
	Count     int             `json:"count,omitempty"` // of [MailExhausted]: deliveries
	Since     time.Time       `json:"since,omitzero"`  // of [MailExhausted]: when the first of them was given up
}

// JSON is the form in which it is kept.
func (b MailBody) JSON() []byte {
	text, err := json.Marshal(b)
	if err != nil {
		panic(err) // evidence is JSON already
	}
	return text
}

// ParseMailBody reads it back.
func ParseMailBody(text []byte) (b MailBody, err error) {
	err = json.Unmarshal(text, &b)
	return b, err
}

// OwedMail is a mail about a webhook, unless there was one of its kind within a day.
type OwedMail struct {
	Kind MailKind
	Body []byte
}

// MailTo is whom a mail about a webhook is for.
type MailTo struct {
	Webhook *fanfare.Webhook
	Account string   // the name of its account
	Emails  []string // the webhook's own, else its account's, else those of the nearest account above; empty: nobody
}

const mailToSQL = `
WITH RECURSIVE up (id, parent_id, name, emails, depth) AS (
	SELECT id, parent_id, name, notification_emails, 0 FROM accounts WHERE id = $1 AND deleted_at IS NULL
	UNION ALL
	SELECT a.id, a.parent_id, a.name, a.notification_emails, up.depth + 1 FROM up JOIN accounts a ON a.id = up.parent_id
)
SELECT coalesce(max(name) FILTER (WHERE depth = 0), ''), (SELECT emails FROM up WHERE emails IS NOT NULL ORDER BY depth LIMIT 1) FROM up`

// MailTo reads whom a mail about a webhook is for. The error is [ErrNotFound] if there is no such webhook.
func (s *Store) MailTo(ctx context.Context, account, webhook uuid.UUID) (*MailTo, error) {
	w, err := s.Webhook(ctx, account, webhook)
	if err != nil {
		return nil, err
	}
	to := &MailTo{Webhook: w}
	if err := s.engine.QueryRow(ctx, mailToSQL, account).Scan(&to.Account, &to.Emails); err != nil {
		return nil, fmt.Errorf("read whom a mail is for: %w", err)
	}
	if w.Care != nil && len(w.Care.Emails) > 0 {
		to.Emails = w.Care.Emails
	}
	return to, nil
}

// oweMail has the change post a mail about a webhook, unless there was one of its kind within a day.
func (c *change) oweMail(ctx context.Context, w *fanfare.Webhook, m OwedMail) error {
	var due bool
	err := c.QueryRow(ctx, `
INSERT INTO webhook_mails AS m (account_id, webhook_id, kind, at) VALUES ($1, $2, $3, clock_timestamp())
ON CONFLICT (webhook_id, kind) DO UPDATE SET at = EXCLUDED.at WHERE m.at <= EXCLUDED.at - interval '1 day'
RETURNING true`, w.AccountID, w.ID, m.Kind).Scan(&due)
	if errors.Is(err, pgx.ErrNoRows) {
		return nil
	}
	if err == nil {
		c.owed.add(OutboxMail, w.AccountID, string(m.Kind), m.Body)
	}
	return err
}

// mailEnabled has the change post a mail about a webhook that was enabled again, if it was the service that had
// disabled it.
func (c *change) mailEnabled(ctx context.Context, w *fanfare.Webhook, before *fanfare.Disabled) error {
	if before.By == fanfare.DisabledByUser {
		return nil
	}
	return c.oweMail(ctx, w, OwedMail{MailEnabled, MailBody{WebhookID: w.ID, At: w.UpdatedAt, By: before.By}.JSON()})
}
