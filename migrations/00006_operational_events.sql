-- +goose Up

SET LOCAL lock_timeout = '5s';
ALTER TABLE outbox ADD COLUMN name text;
COMMENT ON COLUMN outbox.name IS 'what it is: of an event, its type';
COMMENT ON COLUMN outbox.due_at IS 'when it is to be handed over next; who takes it in hand moves this ahead';
CREATE INDEX outbox_kind_due ON outbox (kind, due_at);
CREATE INDEX outbox_created ON outbox (created_at);
DROP INDEX outbox_due;

-- Rows are updated in place: a column that is updated must not get an index.
CREATE TABLE exhaustions (
    webhook_id uuid        PRIMARY KEY,
    account_id uuid        NOT NULL,
    count      integer     NOT NULL,
    since      timestamptz NOT NULL,
    last       bytea       NOT NULL,
    due_at     timestamptz NOT NULL
) WITH (fillfactor = 50);
COMMENT ON TABLE exhaustions IS 'deliveries of a webhook that were given up and that no event has told of yet';
COMMENT ON COLUMN exhaustions.account_id IS 'the webhook''s account';
COMMENT ON COLUMN exhaustions.count IS '0: all of them are told; the row stays until the next one may be';
COMMENT ON COLUMN exhaustions.since IS 'when the first of them was given up';
COMMENT ON COLUMN exhaustions.last IS 'the last of them, as the event will tell it';
COMMENT ON COLUMN exhaustions.due_at IS 'when an event may tell of them';

-- +goose Down

DROP TABLE exhaustions;
CREATE INDEX outbox_due ON outbox (due_at);
DROP INDEX outbox_created, outbox_kind_due;
COMMENT ON COLUMN outbox.due_at IS NULL;
ALTER TABLE outbox DROP COLUMN name;
