-- +goose Up

-- Partitions are made as they are needed and hold six hours each; a column that is updated must not get
-- an index.
CREATE TABLE webhook_health (
    webhook_id uuid        NOT NULL,
    minute     timestamptz NOT NULL,
    node       uuid        NOT NULL,
    account_id uuid        NOT NULL,
    attempts   integer     NOT NULL,
    failures   integer     NOT NULL,
    durations  integer[]   NOT NULL,
    PRIMARY KEY (webhook_id, minute, node)
) PARTITION BY RANGE (minute);
COMMENT ON TABLE webhook_health IS
    'what became of a webhook''s attempts that ended within a minute, as one incarnation counted them; only that incarnation writes the row';
COMMENT ON COLUMN webhook_health.account_id IS 'the webhook''s account';
COMMENT ON COLUMN webhook_health.failures IS 'those of the attempts that failed';
COMMENT ON COLUMN webhook_health.durations IS
    'how many attempts took how long, by the range that the subscript names; ranges before the first and after the last are left out';

-- +goose Down

DROP TABLE webhook_health;
