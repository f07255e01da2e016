-- +goose Up

SET LOCAL lock_timeout = '5s';
ALTER TABLE event_types
    ADD COLUMN origin text CHECK (origin IN ('file', 'platform')),
    ADD COLUMN schema json;
COMMENT ON COLUMN event_types.origin IS 'who brought it: the catalog file or the platform itself; null: the API';
COMMENT ON COLUMN event_types.schema IS 'the JSON Schema of its events'' data, as it was given; null: any data';

-- +goose Down

ALTER TABLE event_types DROP COLUMN schema, DROP COLUMN origin;
