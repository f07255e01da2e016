-- +goose Up

SET LOCAL lock_timeout = '5s';
ALTER TABLE accounts ADD COLUMN settings json;
COMMENT ON COLUMN accounts.settings IS 'what it decides for itself and those below it; null: nothing';
ALTER TABLE webhooks ADD COLUMN options json;
COMMENT ON COLUMN webhooks.options IS 'how requests are made, values of secret headers sealed; null: as by default';

-- +goose Down

ALTER TABLE webhooks DROP COLUMN options;
ALTER TABLE accounts DROP COLUMN settings;
