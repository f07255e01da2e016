-- +goose Up

SET LOCAL lock_timeout = '5s';
ALTER TABLE events ADD COLUMN expunged_at timestamptz;
COMMENT ON COLUMN events.expunged_at IS 'when its data was removed: it is not sent any more; null: never';

-- +goose Down

ALTER TABLE events DROP COLUMN expunged_at;
