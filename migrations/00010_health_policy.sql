-- +goose Up

SET LOCAL lock_timeout = '5s';
ALTER TABLE webhook_health ADD COLUMN exhausted integer NOT NULL DEFAULT 0;
COMMENT ON COLUMN webhook_health.exhausted IS 'those of the failures with which their delivery was given up';

ALTER TABLE webhooks
    ADD COLUMN health_policy       json,
    ADD COLUMN health_from         timestamptz,
    ADD COLUMN disabled_evidence   json,
    ADD COLUMN notification_emails text[];
COMMENT ON COLUMN webhooks.health_policy IS 'what it changes about the policy that it inherits; null: nothing';
COMMENT ON COLUMN webhooks.health_from IS 'when it was last enabled or got another URL: earlier attempts do not count; null: never';
COMMENT ON COLUMN webhooks.disabled_evidence IS 'what it was disabled for; null: somebody disabled it, or it is enabled';
COMMENT ON COLUMN webhooks.notification_emails IS 'who is mailed about it; null: as the account says';
ALTER TABLE accounts ADD COLUMN notification_emails text[];
COMMENT ON COLUMN accounts.notification_emails IS 'who is mailed about its webhooks and those below it; null: as the parent says';

-- Rows are updated in place: a column that is updated must not get an index.
CREATE TABLE webhook_failing (
    webhook_id uuid        PRIMARY KEY,
    account_id uuid        NOT NULL,
    failed_at  timestamptz NOT NULL,
    since      timestamptz,
    look_at    timestamptz NOT NULL DEFAULT now(),
    day_at     timestamptz NOT NULL DEFAULT now()
) WITH (fillfactor = 50);
COMMENT ON TABLE webhook_failing IS 'webhooks with a failure in the last day, which the disabler looks at';
COMMENT ON COLUMN webhook_failing.account_id IS 'the webhook''s account';
COMMENT ON COLUMN webhook_failing.failed_at IS 'the newest minute that is known to have a failure';
COMMENT ON COLUMN webhook_failing.since IS 'the minute of the first failure after the last hour that was not bad; null: none';
COMMENT ON COLUMN webhook_failing.look_at IS 'when its last hour is to be looked at again';
COMMENT ON COLUMN webhook_failing.day_at IS 'its last day need not be looked at before';

CREATE TABLE webhook_mails (
    webhook_id uuid        NOT NULL,
    kind       text        NOT NULL,
    account_id uuid        NOT NULL,
    at         timestamptz NOT NULL,
    PRIMARY KEY (webhook_id, kind)
);
COMMENT ON TABLE webhook_mails IS 'when a mail of a kind about a webhook was last owed: there is one a day';

CREATE TABLE loop_leases (
    name   text        PRIMARY KEY,
    holder uuid        NOT NULL,
    until  timestamptz NOT NULL
);
COMMENT ON TABLE loop_leases IS 'which process runs a loop that only one may run, and until when without a word from it';

-- +goose Down

DROP TABLE loop_leases, webhook_mails, webhook_failing;
ALTER TABLE accounts DROP COLUMN notification_emails;
ALTER TABLE webhooks DROP COLUMN notification_emails, DROP COLUMN disabled_evidence, DROP COLUMN health_from, DROP COLUMN health_policy;
ALTER TABLE webhook_health DROP COLUMN exhausted;
