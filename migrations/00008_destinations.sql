-- +goose Up

SET LOCAL lock_timeout = '5s';
ALTER TABLE events ADD COLUMN destination_ids uuid[];
COMMENT ON COLUMN events.destination_ids IS
    'in the order of destinations: what stands for a webhook''s id in attempts and retries; null: there are none';

-- +goose Down

ALTER TABLE events DROP COLUMN destination_ids;
