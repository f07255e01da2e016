-- +goose Up

-- Who: the tree of tenants -------------------------------------------------------------------------

CREATE TABLE accounts (
    id               uuid        PRIMARY KEY,
    parent_id        uuid        REFERENCES accounts (id),
    name             text        NOT NULL,
    metadata         json        NOT NULL DEFAULT '{}',
    version          bigint      NOT NULL DEFAULT 1,
    registry_version bigint      NOT NULL DEFAULT 0,
    created_at       timestamptz NOT NULL DEFAULT now(),
    updated_at       timestamptz NOT NULL DEFAULT now(),
    deleted_at       timestamptz
);
CREATE INDEX accounts_parent ON accounts (parent_id, id) WHERE deleted_at IS NULL;
COMMENT ON COLUMN accounts.registry_version IS
    'version of the newest registry change about this account; every commit of events compares it with the snapshot it was matched against';
COMMENT ON COLUMN accounts.deleted_at IS 'a deleted account keeps its row, so that the comparison still sees it';

-- Everybody's ancestor: the catalog''s changes raise its registry_version.
INSERT INTO accounts (id, name) VALUES ('00000000-0000-0000-0000-000000000000', 'platform');

CREATE TABLE api_keys (
    id         uuid        PRIMARY KEY,
    account_id uuid        REFERENCES accounts (id),
    name       text        NOT NULL DEFAULT '',
    hint       text        NOT NULL,
    hash       bytea       NOT NULL UNIQUE,
    scopes     text[]      NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX api_keys_account ON api_keys (account_id, id);
COMMENT ON COLUMN api_keys.account_id IS 'null: a platform key';
COMMENT ON COLUMN api_keys.hash IS 'SHA-256 of the key''s text, which is 256 random bits';

CREATE TABLE signing_secrets (
    id         uuid        PRIMARY KEY,
    account_id uuid        NOT NULL REFERENCES accounts (id),
    sealed     bytea       NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    expires_at timestamptz
);
CREATE INDEX signing_secrets_account ON signing_secrets (account_id, created_at DESC);
COMMENT ON TABLE signing_secrets IS 'an account''s own secrets, which sign one-off destinations';

-- What: the catalog and who wants it ---------------------------------------------------------------

CREATE TABLE event_types (
    name        text        PRIMARY KEY,
    description text        NOT NULL DEFAULT '',
    group_name  text        NOT NULL DEFAULT '',
    samples     json        NOT NULL DEFAULT '[]',
    archived    boolean     NOT NULL DEFAULT false,
    created_at  timestamptz NOT NULL DEFAULT now(),
    updated_at  timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE webhooks (
    id                  uuid        PRIMARY KEY,
    account_id          uuid        NOT NULL REFERENCES accounts (id),
    version             bigint      NOT NULL DEFAULT 1,
    name                text        NOT NULL DEFAULT '',
    url                 text        NOT NULL,
    event_types         text[]      NOT NULL,
    include_subaccounts boolean     NOT NULL DEFAULT false,
    timeout_ms          integer     NOT NULL,
    retry_schedule_ms   bigint[]    NOT NULL,
    max_in_flight       integer     NOT NULL,
    metadata            json        NOT NULL DEFAULT '{}',
    disabled_by         text        CHECK (disabled_by IN ('user', 'health', 'gone')),
    disabled_reason     text,
    disabled_at         timestamptz,
    created_at          timestamptz NOT NULL DEFAULT now(),
    updated_at          timestamptz NOT NULL DEFAULT now(),
    deleted_at          timestamptz,
    CHECK ((disabled_by IS NULL) = (disabled_at IS NULL))
);
CREATE INDEX webhooks_account ON webhooks (account_id, id) WHERE deleted_at IS NULL;
COMMENT ON COLUMN webhooks.deleted_at IS 'a deleted webhook keeps its row: its deliveries stay listed';

CREATE TABLE webhook_secrets (
    id         uuid        PRIMARY KEY,
    account_id uuid        NOT NULL,
    webhook_id uuid        NOT NULL REFERENCES webhooks (id),
    sealed     bytea       NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    expires_at timestamptz
);
CREATE INDEX webhook_secrets_webhook ON webhook_secrets (webhook_id, created_at DESC);

-- How nodes keep their registries in step ----------------------------------------------------------

CREATE TABLE registry_head (
    single  boolean PRIMARY KEY DEFAULT true CHECK (single),
    version bigint  NOT NULL
);
INSERT INTO registry_head (version) VALUES (0);

CREATE TABLE registry_changes (
    version    bigint      PRIMARY KEY,
    kind       text        NOT NULL CHECK (kind IN ('account', 'event_type', 'key', 'webhook')),
    account_id uuid        NOT NULL,
    object_id  uuid,
    name       text,
    at         timestamptz NOT NULL DEFAULT clock_timestamp()
);
COMMENT ON TABLE registry_changes IS
    'what changed, never how: a node reads the object anew. account_id is nil for the catalog and for platform keys';
COMMENT ON COLUMN registry_changes.name IS 'of an event type';

-- The log: rows are appended, never updated --------------------------------------------------------

CREATE SEQUENCE log_pos AS bigint;
COMMENT ON SEQUENCE log_pos IS 'the log''s position: milliseconds << 16 | counter; moved only under the log''s advisory lock';

-- The id of the event at a position: a UUIDv7 whose byte order is the order of positions.
-- +goose StatementBegin
CREATE FUNCTION event_id(pos bigint, tail bigint) RETURNS uuid
LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE AS $$
    SELECT (lpad(to_hex(pos >> 16), 12, '0') || '7' || lpad(to_hex((pos >> 4) & 4095), 3, '0')
        || to_hex((1::bigint << 63) | ((pos & 15) << 58) | (tail & ((1::bigint << 58) - 1))))::uuid
$$;
-- +goose StatementEnd

CREATE TABLE events (
    id              uuid        NOT NULL,
    account_id      uuid        NOT NULL,
    type            text        NOT NULL,
    data            bytea       NOT NULL,
    occurred_at     timestamptz,
    idempotency_key text,
    webhook_ids     uuid[]      NOT NULL,
    matched         integer     NOT NULL,
    destinations    bytea,
    test            boolean     NOT NULL DEFAULT false,
    PRIMARY KEY (account_id, id)
) PARTITION BY RANGE (id);
CREATE INDEX events_id ON events (id);
COMMENT ON COLUMN events.data IS 'exactly the bytes that were published: signatures cover bytes';
COMMENT ON COLUMN events.webhook_ids IS 'the fan-out, decided at the commit';
COMMENT ON COLUMN events.matched IS 'how many of webhook_ids belong to the event''s own account';
COMMENT ON COLUMN events.destinations IS 'one-off targets, sealed, which no webhook names';
COMMENT ON COLUMN events.test IS 'made by a webhook''s test send; lists leave it out';

CREATE TABLE attempts (
    webhook_id       uuid        NOT NULL,
    event_id         uuid        NOT NULL,
    id               uuid        NOT NULL,
    account_id       uuid        NOT NULL,
    webhook_version  bigint      NOT NULL,
    number           integer     NOT NULL,
    destination      smallint,
    trigger          text        NOT NULL,
    started_at       timestamptz NOT NULL,
    duration_us      bigint      NOT NULL,
    method           text        NOT NULL,
    url              text        NOT NULL,
    status           smallint    NOT NULL,
    verdict          text,
    state            text        NOT NULL CHECK (state IN ('pending', 'delivered', 'exhausted', 'discarded')),
    reason           text,
    error            text,
    error_detail     text,
    response_headers bytea,
    response_body    bytea,
    retry_at         timestamptz,
    node             uuid        NOT NULL,
    PRIMARY KEY (webhook_id, event_id, id)
) PARTITION BY RANGE (event_id);
CREATE INDEX attempts_account_failed ON attempts (account_id, id) WHERE state <> 'delivered';
CREATE INDEX attempts_account_ended ON attempts (account_id, event_id, webhook_id) WHERE state IN ('exhausted', 'discarded');
COMMENT ON TABLE attempts IS 'one row a request, and one with number 0 for a decision without a request that ended a delivery';
COMMENT ON COLUMN attempts.account_id IS 'the webhook''s account';
COMMENT ON COLUMN attempts.state IS 'the delivery''s state after this; delivered is final whatever comes later';

-- What is owed -------------------------------------------------------------------------------------

CREATE TABLE nodes (
    id          uuid        PRIMARY KEY,
    name        text        NOT NULL,
    started_at  timestamptz NOT NULL DEFAULT now(),
    lease_until timestamptz NOT NULL,
    dead        boolean     NOT NULL DEFAULT false
);
COMMENT ON TABLE nodes IS 'one row an incarnation: each start of a node, and each return from the dead, is a new one';

CREATE TABLE open_groups (
    id        uuid     PRIMARY KEY,
    owner     uuid     NOT NULL,
    first     uuid     NOT NULL,
    last      uuid     NOT NULL,
    takeovers smallint NOT NULL DEFAULT 0
) WITH (autovacuum_vacuum_threshold = 500, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_cost_delay = 0);
CREATE INDEX open_groups_owner ON open_groups (owner);
COMMENT ON TABLE open_groups IS 'the events of one commit, until each of their deliveries has an outcome on record';

CREATE TABLE retries (
    webhook_id  uuid        NOT NULL,
    event_id    uuid        NOT NULL,
    account_id  uuid        NOT NULL,
    destination smallint,
    trigger     text        NOT NULL,
    number      integer     NOT NULL,
    tries       integer     NOT NULL,
    first_at    timestamptz NOT NULL,
    due_at      timestamptz NOT NULL,
    owner       uuid,
    takeovers   smallint    NOT NULL DEFAULT 0,
    PRIMARY KEY (webhook_id, event_id)
) WITH (fillfactor = 80, autovacuum_vacuum_threshold = 500, autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_cost_delay = 0);
CREATE INDEX retries_due ON retries (webhook_id, due_at) WHERE owner IS NULL;
CREATE INDEX retries_owner ON retries (owner) WHERE owner IS NOT NULL;
CREATE INDEX retries_account ON retries (account_id, event_id);
COMMENT ON TABLE retries IS 'deliveries that are still owed and wait here: failed once, parked, or handed over at a shutdown';
COMMENT ON COLUMN retries.number IS 'requests made so far';
COMMENT ON COLUMN retries.tries IS 'those of them that count against the schedule';
COMMENT ON COLUMN retries.first_at IS 'the first attempt''s start, or the publish if there was none';
COMMENT ON COLUMN retries.owner IS 'the incarnation that has it in hand; null: free to be claimed';

CREATE TABLE log_horizon (
    single    boolean     PRIMARY KEY DEFAULT true CHECK (single),
    event_id  uuid        NOT NULL,
    raised_at timestamptz NOT NULL
);
INSERT INTO log_horizon (event_id, raised_at) VALUES ('00000000-0000-0000-0000-000000000000', now());
COMMENT ON TABLE log_horizon IS 'events below it are gone or going: nothing below it is claimed, replayed or recorded';

CREATE TABLE idempotency_keys (
    account_id   uuid  NOT NULL,
    key          text  NOT NULL,
    event_id     uuid  NOT NULL,
    request_hash bytea NOT NULL,
    PRIMARY KEY (account_id, key)
);
CREATE INDEX idempotency_keys_event ON idempotency_keys (event_id);

CREATE TABLE api_replies (
    account_id   uuid        NOT NULL,
    key          text        NOT NULL,
    request_hash bytea       NOT NULL,
    status       smallint    NOT NULL,
    sealed       bytea       NOT NULL,
    created_at   timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (account_id, key)
);
CREATE INDEX api_replies_created ON api_replies (created_at);
COMMENT ON TABLE api_replies IS 'first answers of calls made with an Idempotency-Key, sealed since they may hold a secret';

CREATE TABLE outbox (
    id         uuid        PRIMARY KEY,
    kind       text        NOT NULL CHECK (kind IN ('event', 'mail')),
    account_id uuid        NOT NULL,
    body       bytea       NOT NULL,
    due_at     timestamptz NOT NULL DEFAULT now(),
    tries      integer     NOT NULL DEFAULT 0,
    created_at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX outbox_due ON outbox (due_at);
COMMENT ON TABLE outbox IS 'what a change owes to the outside, written in the change''s own transaction';

-- +goose Down

DROP TABLE outbox, api_replies, idempotency_keys, log_horizon, retries, open_groups, nodes, attempts, events,
    registry_changes, registry_head, webhook_secrets, webhooks, event_types, signing_secrets, api_keys, accounts;
DROP FUNCTION event_id;
DROP SEQUENCE log_pos;
