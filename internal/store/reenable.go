package store

import (
	"context"
	"fmt"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/fanfare-webhooks/fanfare"
)

const brokenAccountsSQL = `
SELECT DISTINCT account_id FROM webhooks
WHERE account_id = ANY (CASE WHEN $2 THEN ARRAY(` + subtreeSQL + `) ELSE ARRAY[$1] END)
	AND disabled_by IN ('health', 'gone') AND deleted_at IS NULL
ORDER BY account_id`

const reEnableSQL = `
WITH enabled AS (
	UPDATE webhooks SET disabled_by = NULL, disabled_reason = NULL, disabled_at = NULL, disabled_evidence = NULL, health_from = clock_timestamp(),
		version = version + 1, updated_at = clock_timestamp()
	WHERE account_id = $1 AND disabled_by IN ('health', 'gone') AND deleted_at IS NULL
	RETURNING ` + webhookColumns + `
), mailed AS (
	INSERT INTO webhook_mails AS m (account_id, webhook_id, kind, at)
	SELECT account_id, id, 'enabled', clock_timestamp() FROM enabled ORDER BY id
	ON CONFLICT (webhook_id, kind) DO UPDATE SET at = EXCLUDED.at WHERE m.at <= EXCLUDED.at - interval '1 day'
	RETURNING webhook_id
), posted AS (
	INSERT INTO outbox (id, kind, account_id, name, body)
	SELECT gen_random_uuid(), 'mail', e.account_id, 'enabled',
		convert_to(json_build_object('webhook_id', e.id, 'at', e.updated_at)::text, 'UTF8')
	FROM mailed m JOIN enabled e ON e.id = m.webhook_id
)
SELECT ` + webhookColumns + ` FROM enabled`

// ReEnable enables the webhooks of an account, and with descendants of those below it, that the service has
// disabled, and says how many. Each account is a change of its own: after an error some may be done, and the call can
// be repeated.
func (s *Store) ReEnable(ctx context.Context, account uuid.UUID, descendants bool) (n int, err error) {
	rows, err := s.pool.Query(ctx, brokenAccountsSQL, account, descendants)
	if err != nil {
		return 0, fmt.Errorf("find disabled webhooks: %w", err)
	}
	accounts, err := pgx.CollectRows(rows, pgx.RowTo[uuid.UUID])
	if err != nil {
		return 0, fmt.Errorf("find disabled webhooks: %w", err)
	}
	for _, id := range accounts {
		spec := changeSpec{doing: "enable webhooks again", accounts: []uuid.UUID{id}}
		err := s.change(ctx, spec, func(ctx context.Context, c *change) error {
			rows, err := c.Query(ctx, reEnableSQL, id)
			enabled, err := collect(rows, err, scanWebhook)
			if err != nil {
				return err
			}
			for i := range enabled {
				w := &enabled[i]
				c.raise(ChangeWebhook, w.AccountID, w.ID, "")
				c.tell(fanfare.EventWebhookEnabled, w)
			}
			n += len(enabled)
			return nil
		})
		if err != nil {
			return n, err
		}
	}
	if n > 0 {
		s.bell.ring(OutboxMail)
	}
	return n, nil
}
