-- +goose Up

SET LOCAL lock_timeout = '5s';
ALTER TABLE event_types ADD COLUMN modifiers json;
COMMENT ON COLUMN event_types.modifiers IS 'what a webhook may narrow, as it was given; null: nothing';
ALTER TABLE webhooks
    ADD COLUMN modifiers        json,
    ADD COLUMN filter           json,
    ADD COLUMN filter_canonical text,
    ADD CONSTRAINT webhooks_filter_check CHECK ((filter IS NULL) = (filter_canonical IS NULL));
COMMENT ON COLUMN webhooks.modifiers IS 'values that events must have, as they were given; null: any';
COMMENT ON COLUMN webhooks.filter IS 'a condition on events, as it was given; null: none';
COMMENT ON COLUMN webhooks.filter_canonical IS 'the same in the one form that all its spellings share: what nodes match';

-- +goose Down

ALTER TABLE webhooks DROP COLUMN filter_canonical, DROP COLUMN filter, DROP COLUMN modifiers;
ALTER TABLE event_types DROP COLUMN modifiers;
