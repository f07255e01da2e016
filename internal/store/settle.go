package store

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/google/uuid"

	"github.com/fanfare-webhooks/fanfare"
)

// Looked is what the disabler thinks of a webhook that it has looked at.
type Looked struct {
	WebhookID uuid.UUID
	AccountID uuid.UUID
	Forget    bool // it does not fail any more, or is no webhook any more. Nothing below counts
	Since     time.Time
	FailedAt  time.Time
	Again     time.Duration // until it is looked at again
	DayAt     time.Time     // its last day need not be looked at before
	Mails     []OwedMail
	Disable   *Verdict // nil: nothing is disabled
}

// Verdict disables a webhook, if it is still as it was when it was looked at.
type Verdict struct {
	Version  int64
	Reason   string
	Evidence []byte
	Mail     []byte // of [MailDisabled]
}

const noteLookedSQL = `
WITH forgotten AS (
	DELETE FROM webhook_failing WHERE webhook_id = ANY ($1)
), noted AS (
	UPDATE webhook_failing f
	SET since = u.since, failed_at = greatest(f.failed_at, u.failed_at), look_at = clock_timestamp() + u.again, day_at = u.day_at
	FROM unnest($2::uuid[], $3::timestamptz[], $4::timestamptz[], $5::interval[], $6::timestamptz[]) AS u (id, since, failed_at, again, day_at)
	WHERE f.webhook_id = u.id
), `

// off disables; its webhooks are the statement's answer. A mail that says so goes out only if it is so.
const settleSQLEnd = `off AS (
	UPDATE webhooks w
	SET disabled_by = 'health', disabled_reason = u.reason, disabled_at = clock_timestamp(), disabled_evidence = u.evidence::json,
		version = version + 1, updated_at = clock_timestamp()
	FROM unnest($7::uuid[], $8::uuid[], $9::bigint[], $10::text[], $11::text[]) AS u (in_account, hook, seen, reason, evidence)
	WHERE w.account_id = u.in_account AND w.id = u.hook AND w.version = u.seen AND w.deleted_at IS NULL AND w.disabled_by IS NULL
	RETURNING ` + webhookColumns + `
), owed AS (
	SELECT * FROM unnest($12::uuid[], $13::uuid[], $14::uuid[], $15::text[], $16::bytea[]) AS u (row_id, in_account, hook, kind, body)
	WHERE kind <> 'disabled' OR EXISTS (SELECT FROM off WHERE off.id = hook)
), mailed AS (
	INSERT INTO webhook_mails AS m (account_id, webhook_id, kind, at)
	SELECT in_account, hook, kind, clock_timestamp() FROM owed ORDER BY hook, kind
	ON CONFLICT (webhook_id, kind) DO UPDATE SET at = EXCLUDED.at WHERE m.at <= EXCLUDED.at - interval '1 day'
	RETURNING webhook_id, kind
), posted AS (
	INSERT INTO outbox (id, kind, account_id, name, body)
	SELECT row_id, 'mail', in_account, o.kind, body FROM owed o JOIN mailed m ON m.webhook_id = o.hook AND m.kind = o.kind
)
SELECT ` + webhookColumns + ` FROM off`

const settleLookedSQL = noteLookedSQL + settleSQLEnd

// Settle writes down what the disabler thinks of webhooks, at most one of each: when it looks at them again, and, in the
// same transaction, which are disabled, the operational events of that and the mails. It answers which were
// disabled.
func (s *Store) Settle(ctx context.Context, looked []Looked) (disabled []fanfare.Webhook, err error) {
	var (
		forgotten, noted       []uuid.UUID
		since, failed          []*time.Time
		again                  []time.Duration
		day                    []time.Time
		accounts, hooks        []uuid.UUID
		versions               []int64
		reasons, evidences     []string
		rows, owners, mailedOf []uuid.UUID
		kinds                  []MailKind
		bodies                 [][]byte
	)
	owe := func(l *Looked, kind MailKind, body []byte) {
		rows, owners, mailedOf = append(rows, uuid.Must(uuid.NewV7())), append(owners, l.AccountID), append(mailedOf, l.WebhookID)
		kinds, bodies = append(kinds, kind), append(bodies, body)
	}
	for i := range looked {
		l := &looked[i]
		if l.Forget {
			forgotten = append(forgotten, l.WebhookID)
			continue
		}
		noted, since, failed = append(noted, l.WebhookID), append(since, nullTime(l.Since)), append(failed, nullTime(l.FailedAt))
		again, day = append(again, l.Again), append(day, l.DayAt)
		for _, m := range l.Mails {
			owe(l, m.Kind, m.Body)
		}
		if v := l.Disable; v != nil {
			accounts, hooks, versions = append(accounts, l.AccountID), append(hooks, l.WebhookID), append(versions, v.Version)
			reasons, evidences = append(reasons, v.Reason), append(evidences, string(v.Evidence))
			owe(l, MailDisabled, v.Mail)
		}
	}
	args := []any{
		forgotten, noted, since, failed, again, day, accounts, hooks, versions, reasons, evidences, rows, owners, mailedOf, kinds, bodies,
	}
	if len(hooks) == 0 { // nothing that nodes hold in memory changes
		if _, err := s.engine.Exec(ctx, settleLookedSQL, args...); err != nil {
			return nil, fmt.Errorf("settle what was looked at: %w", err)
		}
		if len(rows) > 0 {
			s.bell.ring(OutboxMail)
		}
		return nil, nil
	}
	locked := slices.Clone(accounts)
	slices.SortFunc(locked, func(a, b uuid.UUID) int { return slices.Compare(a[:], b[:]) })
	spec := changeSpec{doing: "disable webhooks that fail", accounts: slices.Compact(locked)}
	err = s.change(ctx, spec, func(ctx context.Context, c *change) error {
		found, err := c.Query(ctx, settleLookedSQL, args...)
		if disabled, err = collect(found, err, scanWebhook); err != nil {
			return err
		}
		for i := range disabled {
			w := &disabled[i]
			c.raise(ChangeWebhook, w.AccountID, w.ID, "")
			c.tell(fanfare.EventWebhookDisabled, w)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	s.bell.ring(OutboxMail)
	return disabled, nil
}
