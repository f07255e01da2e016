-- +goose Up

SET LOCAL lock_timeout = '5s';
ALTER TABLE webhooks
    ADD COLUMN rate_count  integer,
    ADD COLUMN rate_per_ms bigint,
    ADD CONSTRAINT webhooks_rate_check CHECK ((rate_count IS NULL) = (rate_per_ms IS NULL));
COMMENT ON COLUMN webhooks.rate_count IS 'at most so many requests start within any rate_per_ms; null: no limit';

-- +goose Down

ALTER TABLE webhooks DROP COLUMN rate_count, DROP COLUMN rate_per_ms;
