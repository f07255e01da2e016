CREATE FUNCTION public.event_id(pos bigint, tail bigint) RETURNS uuid
    LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
    AS $$
    SELECT (lpad(to_hex(pos >> 16), 12, '0') || '7' || lpad(to_hex((pos >> 4) & 4095), 3, '0')
        || to_hex((1::bigint << 63) | ((pos & 15) << 58) | (tail & ((1::bigint << 58) - 1))))::uuid
$$;

CREATE TABLE public.accounts (
    id uuid NOT NULL,
    parent_id uuid,
    name text NOT NULL,
    metadata json DEFAULT '{}'::json NOT NULL,
    version bigint DEFAULT 1 NOT NULL,
    registry_version bigint DEFAULT 0 NOT NULL,
    created_at timestamp with time zone DEFAULT now() NOT NULL,
    updated_at timestamp with time zone DEFAULT now() NOT NULL,
    deleted_at timestamp with time zone,
    settings json,
    notification_emails text[]
);

COMMENT ON COLUMN public.accounts.registry_version IS 'version of the newest registry change about this account; every commit of events compares it with the snapshot it was matched against';

COMMENT ON COLUMN public.accounts.deleted_at IS 'a deleted account keeps its row, so that the comparison still sees it';

COMMENT ON COLUMN public.accounts.settings IS 'what it decides for itself and those below it; null: nothing';

COMMENT ON COLUMN public.accounts.notification_emails IS 'who is mailed about its webhooks and those below it; null: as the parent says';

CREATE TABLE public.api_keys (
    id uuid NOT NULL,
    account_id uuid,
    name text DEFAULT ''::text NOT NULL,
    hint text NOT NULL,
    hash bytea NOT NULL,
    scopes text[] NOT NULL,
    created_at timestamp with time zone DEFAULT now() NOT NULL
);

COMMENT ON COLUMN public.api_keys.account_id IS 'null: a platform key';

COMMENT ON COLUMN public.api_keys.hash IS 'SHA-256 of the key''s text, which is 256 random bits';

CREATE TABLE public.api_replies (
    account_id uuid NOT NULL,
    key text NOT NULL,
    request_hash bytea NOT NULL,
    status smallint NOT NULL,
    sealed bytea NOT NULL,
    created_at timestamp with time zone DEFAULT now() NOT NULL
);

COMMENT ON TABLE public.api_replies IS 'first answers of calls made with an Idempotency-Key, sealed since they may hold a secret';

CREATE TABLE public.attempts (
    webhook_id uuid NOT NULL,
    event_id uuid NOT NULL,
    id uuid NOT NULL,
    account_id uuid NOT NULL,
    webhook_version bigint NOT NULL,
    number integer NOT NULL,
    destination smallint,
    trigger text NOT NULL,
    started_at timestamp with time zone NOT NULL,
    duration_us bigint NOT NULL,
    method text NOT NULL,
    url text NOT NULL,
    status smallint NOT NULL,
    verdict text,
    state text NOT NULL,
    reason text,
    error text,
    error_detail text,
    response_headers bytea,
    response_body bytea,
    retry_at timestamp with time zone,
    node uuid NOT NULL,
    CONSTRAINT attempts_state_check CHECK ((state = ANY (ARRAY['pending'::text, 'delivered'::text, 'exhausted'::text, 'discarded'::text])))
)
PARTITION BY RANGE (event_id);

COMMENT ON TABLE public.attempts IS 'one row a request, and one with number 0 for a decision without a request that ended a delivery';

COMMENT ON COLUMN public.attempts.account_id IS 'the webhook''s account';

COMMENT ON COLUMN public.attempts.state IS 'the delivery''s state after this; delivered is final whatever comes later';

CREATE TABLE public.event_types (
    name text NOT NULL,
    description text DEFAULT ''::text NOT NULL,
    group_name text DEFAULT ''::text NOT NULL,
    samples json DEFAULT '[]'::json NOT NULL,
    archived boolean DEFAULT false NOT NULL,
    created_at timestamp with time zone DEFAULT now() NOT NULL,
    updated_at timestamp with time zone DEFAULT now() NOT NULL,
    modifiers json,
    origin text,
    schema json,
    CONSTRAINT event_types_origin_check CHECK ((origin = ANY (ARRAY['file'::text, 'platform'::text])))
);

COMMENT ON COLUMN public.event_types.modifiers IS 'what a webhook may narrow, as it was given; null: nothing';

COMMENT ON COLUMN public.event_types.origin IS 'who brought it: the catalog file or the platform itself; null: the API';

COMMENT ON COLUMN public.event_types.schema IS 'the JSON Schema of its events'' data, as it was given; null: any data';

CREATE TABLE public.events (
    id uuid NOT NULL,
    account_id uuid NOT NULL,
    type text NOT NULL,
    data bytea NOT NULL,
    occurred_at timestamp with time zone,
    idempotency_key text,
    webhook_ids uuid[] NOT NULL,
    matched integer NOT NULL,
    destinations bytea,
    test boolean DEFAULT false NOT NULL,
    destination_ids uuid[],
    expunged_at timestamp with time zone
)
PARTITION BY RANGE (id);

COMMENT ON COLUMN public.events.data IS 'exactly the bytes that were published: signatures cover bytes';

COMMENT ON COLUMN public.events.webhook_ids IS 'the fan-out, decided at the commit';

COMMENT ON COLUMN public.events.matched IS 'how many of webhook_ids belong to the event''s own account';

COMMENT ON COLUMN public.events.destinations IS 'one-off targets, sealed, which no webhook names';

COMMENT ON COLUMN public.events.test IS 'made by a webhook''s test send; lists leave it out';

COMMENT ON COLUMN public.events.destination_ids IS 'in the order of destinations: what stands for a webhook''s id in attempts and retries; null: there are none';

COMMENT ON COLUMN public.events.expunged_at IS 'when its data was removed: it is not sent any more; null: never';

CREATE TABLE public.exhaustions (
    webhook_id uuid NOT NULL,
    account_id uuid NOT NULL,
    count integer NOT NULL,
    since timestamp with time zone NOT NULL,
    last bytea NOT NULL,
    due_at timestamp with time zone NOT NULL
)
WITH (fillfactor='50');

COMMENT ON TABLE public.exhaustions IS 'deliveries of a webhook that were given up and that no event has told of yet';

COMMENT ON COLUMN public.exhaustions.account_id IS 'the webhook''s account';

COMMENT ON COLUMN public.exhaustions.count IS '0: all of them are told; the row stays until the next one may be';

COMMENT ON COLUMN public.exhaustions.since IS 'when the first of them was given up';

COMMENT ON COLUMN public.exhaustions.last IS 'the last of them, as the event will tell it';

COMMENT ON COLUMN public.exhaustions.due_at IS 'when an event may tell of them';

CREATE TABLE public.idempotency_keys (
    account_id uuid NOT NULL,
    key text NOT NULL,
    event_id uuid NOT NULL,
    request_hash bytea NOT NULL
);

CREATE TABLE public.log_horizon (
    single boolean DEFAULT true NOT NULL,
    event_id uuid NOT NULL,
    raised_at timestamp with time zone NOT NULL,
    CONSTRAINT log_horizon_single_check CHECK (single)
);

COMMENT ON TABLE public.log_horizon IS 'events below it are gone or going: nothing below it is claimed, replayed or recorded';

CREATE SEQUENCE public.log_pos
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1;

COMMENT ON SEQUENCE public.log_pos IS 'the log''s position: milliseconds << 16 | counter; moved only under the log''s advisory lock';

CREATE TABLE public.loop_leases (
    name text NOT NULL,
    holder uuid NOT NULL,
    until timestamp with time zone NOT NULL
);

COMMENT ON TABLE public.loop_leases IS 'which process runs a loop that only one may run, and until when without a word from it';

CREATE TABLE public.nodes (
    id uuid NOT NULL,
    name text NOT NULL,
    started_at timestamp with time zone DEFAULT now() NOT NULL,
    lease_until timestamp with time zone NOT NULL,
    dead boolean DEFAULT false NOT NULL
);

COMMENT ON TABLE public.nodes IS 'one row an incarnation: each start of a node, and each return from the dead, is a new one';

CREATE TABLE public.open_groups (
    id uuid NOT NULL,
    owner uuid NOT NULL,
    first uuid NOT NULL,
    last uuid NOT NULL,
    takeovers smallint DEFAULT 0 NOT NULL
)
WITH (autovacuum_vacuum_threshold='500', autovacuum_vacuum_scale_factor='0', autovacuum_vacuum_cost_delay='0');

COMMENT ON TABLE public.open_groups IS 'the events of one commit, until each of their deliveries has an outcome on record';

CREATE TABLE public.outbox (
    id uuid NOT NULL,
    kind text NOT NULL,
    account_id uuid NOT NULL,
    body bytea NOT NULL,
    due_at timestamp with time zone DEFAULT now() NOT NULL,
    tries integer DEFAULT 0 NOT NULL,
    created_at timestamp with time zone DEFAULT now() NOT NULL,
    name text,
    CONSTRAINT outbox_kind_check CHECK ((kind = ANY (ARRAY['event'::text, 'mail'::text])))
);

COMMENT ON TABLE public.outbox IS 'what a change owes to the outside, written in the change''s own transaction';

COMMENT ON COLUMN public.outbox.due_at IS 'when it is to be handed over next; who takes it in hand moves this ahead';

COMMENT ON COLUMN public.outbox.name IS 'what it is: of an event, its type';

CREATE TABLE public.registry_changes (
    version bigint NOT NULL,
    kind text NOT NULL,
    account_id uuid NOT NULL,
    object_id uuid,
    name text,
    at timestamp with time zone DEFAULT clock_timestamp() NOT NULL,
    CONSTRAINT registry_changes_kind_check CHECK ((kind = ANY (ARRAY['account'::text, 'event_type'::text, 'key'::text, 'webhook'::text])))
);

COMMENT ON TABLE public.registry_changes IS 'what changed, never how: a node reads the object anew. account_id is nil for the catalog and for platform keys';

COMMENT ON COLUMN public.registry_changes.name IS 'of an event type';

CREATE TABLE public.registry_head (
    single boolean DEFAULT true NOT NULL,
    version bigint NOT NULL,
    CONSTRAINT registry_head_single_check CHECK (single)
);

CREATE TABLE public.retries (
    webhook_id uuid NOT NULL,
    event_id uuid NOT NULL,
    account_id uuid NOT NULL,
    destination smallint,
    trigger text NOT NULL,
    number integer NOT NULL,
    tries integer NOT NULL,
    first_at timestamp with time zone NOT NULL,
    due_at timestamp with time zone NOT NULL,
    owner uuid,
    takeovers smallint DEFAULT 0 NOT NULL
)
WITH (fillfactor='80', autovacuum_vacuum_threshold='500', autovacuum_vacuum_scale_factor='0.02', autovacuum_vacuum_cost_delay='0');

COMMENT ON TABLE public.retries IS 'deliveries that are still owed and wait here: failed once, parked, or handed over at a shutdown';

COMMENT ON COLUMN public.retries.number IS 'requests made so far';

COMMENT ON COLUMN public.retries.tries IS 'those of them that count against the schedule';

COMMENT ON COLUMN public.retries.first_at IS 'the first attempt''s start, or the publish if there was none';

COMMENT ON COLUMN public.retries.owner IS 'the incarnation that has it in hand; null: free to be claimed';

CREATE TABLE public.signing_secrets (
    id uuid NOT NULL,
    account_id uuid NOT NULL,
    sealed bytea NOT NULL,
    created_at timestamp with time zone DEFAULT now() NOT NULL,
    expires_at timestamp with time zone
);

COMMENT ON TABLE public.signing_secrets IS 'an account''s own secrets, which sign one-off destinations';

CREATE TABLE public.webhook_failing (
    webhook_id uuid NOT NULL,
    account_id uuid NOT NULL,
    failed_at timestamp with time zone NOT NULL,
    since timestamp with time zone,
    look_at timestamp with time zone DEFAULT now() NOT NULL,
    day_at timestamp with time zone DEFAULT now() NOT NULL
)
WITH (fillfactor='50');

COMMENT ON TABLE public.webhook_failing IS 'webhooks with a failure in the last day, which the disabler looks at';

COMMENT ON COLUMN public.webhook_failing.account_id IS 'the webhook''s account';

COMMENT ON COLUMN public.webhook_failing.failed_at IS 'the newest minute that is known to have a failure';

COMMENT ON COLUMN public.webhook_failing.since IS 'the minute of the first failure after the last hour that was not bad; null: none';

COMMENT ON COLUMN public.webhook_failing.look_at IS 'when its last hour is to be looked at again';

COMMENT ON COLUMN public.webhook_failing.day_at IS 'its last day need not be looked at before';

CREATE TABLE public.webhook_health (
    webhook_id uuid NOT NULL,
    minute timestamp with time zone NOT NULL,
    node uuid NOT NULL,
    account_id uuid NOT NULL,
    attempts integer NOT NULL,
    failures integer NOT NULL,
    durations integer[] NOT NULL,
    exhausted integer DEFAULT 0 NOT NULL
)
PARTITION BY RANGE (minute);

COMMENT ON TABLE public.webhook_health IS 'what became of a webhook''s attempts that ended within a minute, as one incarnation counted them; only that incarnation writes the row';

COMMENT ON COLUMN public.webhook_health.account_id IS 'the webhook''s account';

COMMENT ON COLUMN public.webhook_health.failures IS 'those of the attempts that failed';

COMMENT ON COLUMN public.webhook_health.durations IS 'how many attempts took how long, by the range that the subscript names; ranges before the first and after the last are left out';

COMMENT ON COLUMN public.webhook_health.exhausted IS 'those of the failures with which their delivery was given up';

CREATE TABLE public.webhook_mails (
    webhook_id uuid NOT NULL,
    kind text NOT NULL,
    account_id uuid NOT NULL,
    at timestamp with time zone NOT NULL
);

COMMENT ON TABLE public.webhook_mails IS 'when a mail of a kind about a webhook was last owed: there is one a day';

CREATE TABLE public.webhook_secrets (
    id uuid NOT NULL,
    account_id uuid NOT NULL,
    webhook_id uuid NOT NULL,
    sealed bytea NOT NULL,
    created_at timestamp with time zone DEFAULT now() NOT NULL,
    expires_at timestamp with time zone
);

CREATE TABLE public.webhooks (
    id uuid NOT NULL,
    account_id uuid NOT NULL,
    version bigint DEFAULT 1 NOT NULL,
    name text DEFAULT ''::text NOT NULL,
    url text NOT NULL,
    event_types text[] NOT NULL,
    include_subaccounts boolean DEFAULT false NOT NULL,
    timeout_ms integer NOT NULL,
    retry_schedule_ms bigint[] NOT NULL,
    max_in_flight integer NOT NULL,
    metadata json DEFAULT '{}'::json NOT NULL,
    disabled_by text,
    disabled_reason text,
    disabled_at timestamp with time zone,
    created_at timestamp with time zone DEFAULT now() NOT NULL,
    updated_at timestamp with time zone DEFAULT now() NOT NULL,
    deleted_at timestamp with time zone,
    rate_count integer,
    rate_per_ms bigint,
    modifiers json,
    filter json,
    filter_canonical text,
    options json,
    health_policy json,
    health_from timestamp with time zone,
    disabled_evidence json,
    notification_emails text[],
    CONSTRAINT webhooks_check CHECK (((disabled_by IS NULL) = (disabled_at IS NULL))),
    CONSTRAINT webhooks_disabled_by_check CHECK ((disabled_by = ANY (ARRAY['user'::text, 'health'::text, 'gone'::text]))),
    CONSTRAINT webhooks_filter_check CHECK (((filter IS NULL) = (filter_canonical IS NULL))),
    CONSTRAINT webhooks_rate_check CHECK (((rate_count IS NULL) = (rate_per_ms IS NULL)))
);

COMMENT ON COLUMN public.webhooks.deleted_at IS 'a deleted webhook keeps its row: its deliveries stay listed';

COMMENT ON COLUMN public.webhooks.rate_count IS 'at most so many requests start within any rate_per_ms; null: no limit';

COMMENT ON COLUMN public.webhooks.modifiers IS 'values that events must have, as they were given; null: any';

COMMENT ON COLUMN public.webhooks.filter IS 'a condition on events, as it was given; null: none';

COMMENT ON COLUMN public.webhooks.filter_canonical IS 'the same in the one form that all its spellings share: what nodes match';

COMMENT ON COLUMN public.webhooks.options IS 'how requests are made, values of secret headers sealed; null: as by default';

COMMENT ON COLUMN public.webhooks.health_policy IS 'what it changes about the policy that it inherits; null: nothing';

COMMENT ON COLUMN public.webhooks.health_from IS 'when it was last enabled or got another URL: earlier attempts do not count; null: never';

COMMENT ON COLUMN public.webhooks.disabled_evidence IS 'what it was disabled for; null: somebody disabled it, or it is enabled';

COMMENT ON COLUMN public.webhooks.notification_emails IS 'who is mailed about it; null: as the account says';

ALTER TABLE ONLY public.accounts
    ADD CONSTRAINT accounts_pkey PRIMARY KEY (id);

ALTER TABLE ONLY public.api_keys
    ADD CONSTRAINT api_keys_hash_key UNIQUE (hash);

ALTER TABLE ONLY public.api_keys
    ADD CONSTRAINT api_keys_pkey PRIMARY KEY (id);

ALTER TABLE ONLY public.api_replies
    ADD CONSTRAINT api_replies_pkey PRIMARY KEY (account_id, key);

ALTER TABLE ONLY public.attempts
    ADD CONSTRAINT attempts_pkey PRIMARY KEY (webhook_id, event_id, id);

ALTER TABLE ONLY public.event_types
    ADD CONSTRAINT event_types_pkey PRIMARY KEY (name);

ALTER TABLE ONLY public.events
    ADD CONSTRAINT events_pkey PRIMARY KEY (account_id, id);

ALTER TABLE ONLY public.exhaustions
    ADD CONSTRAINT exhaustions_pkey PRIMARY KEY (webhook_id);

ALTER TABLE ONLY public.idempotency_keys
    ADD CONSTRAINT idempotency_keys_pkey PRIMARY KEY (account_id, key);

ALTER TABLE ONLY public.log_horizon
    ADD CONSTRAINT log_horizon_pkey PRIMARY KEY (single);

ALTER TABLE ONLY public.loop_leases
    ADD CONSTRAINT loop_leases_pkey PRIMARY KEY (name);

ALTER TABLE ONLY public.nodes
    ADD CONSTRAINT nodes_pkey PRIMARY KEY (id);

ALTER TABLE ONLY public.open_groups
    ADD CONSTRAINT open_groups_pkey PRIMARY KEY (id);

ALTER TABLE ONLY public.outbox
    ADD CONSTRAINT outbox_pkey PRIMARY KEY (id);

ALTER TABLE ONLY public.registry_changes
    ADD CONSTRAINT registry_changes_pkey PRIMARY KEY (version);

ALTER TABLE ONLY public.registry_head
    ADD CONSTRAINT registry_head_pkey PRIMARY KEY (single);

ALTER TABLE ONLY public.retries
    ADD CONSTRAINT retries_pkey PRIMARY KEY (webhook_id, event_id);

ALTER TABLE ONLY public.signing_secrets
    ADD CONSTRAINT signing_secrets_pkey PRIMARY KEY (id);

ALTER TABLE ONLY public.webhook_failing
    ADD CONSTRAINT webhook_failing_pkey PRIMARY KEY (webhook_id);

ALTER TABLE ONLY public.webhook_health
    ADD CONSTRAINT webhook_health_pkey PRIMARY KEY (webhook_id, minute, node);

ALTER TABLE ONLY public.webhook_mails
    ADD CONSTRAINT webhook_mails_pkey PRIMARY KEY (webhook_id, kind);

ALTER TABLE ONLY public.webhook_secrets
    ADD CONSTRAINT webhook_secrets_pkey PRIMARY KEY (id);

ALTER TABLE ONLY public.webhooks
    ADD CONSTRAINT webhooks_pkey PRIMARY KEY (id);

CREATE INDEX accounts_parent ON public.accounts USING btree (parent_id, id) WHERE (deleted_at IS NULL);

CREATE INDEX api_keys_account ON public.api_keys USING btree (account_id, id);

CREATE INDEX api_replies_created ON public.api_replies USING btree (created_at);

CREATE INDEX attempts_account_ended ON ONLY public.attempts USING btree (account_id, event_id, webhook_id) WHERE (state = ANY (ARRAY['exhausted'::text, 'discarded'::text]));

CREATE INDEX attempts_account_failed ON ONLY public.attempts USING btree (account_id, id) WHERE (state <> 'delivered'::text);

CREATE INDEX events_id ON ONLY public.events USING btree (id);

CREATE INDEX idempotency_keys_event ON public.idempotency_keys USING btree (event_id);

CREATE INDEX open_groups_owner ON public.open_groups USING btree (owner);

CREATE INDEX outbox_created ON public.outbox USING btree (created_at);

CREATE INDEX outbox_kind_due ON public.outbox USING btree (kind, due_at);

CREATE INDEX retries_account ON public.retries USING btree (account_id, event_id);

CREATE INDEX retries_due ON public.retries USING btree (webhook_id, due_at) WHERE (owner IS NULL);

CREATE INDEX retries_owner ON public.retries USING btree (owner) WHERE (owner IS NOT NULL);

CREATE INDEX signing_secrets_account ON public.signing_secrets USING btree (account_id, created_at DESC);

CREATE INDEX webhook_secrets_webhook ON public.webhook_secrets USING btree (webhook_id, created_at DESC);

CREATE INDEX webhooks_account ON public.webhooks USING btree (account_id, id) WHERE (deleted_at IS NULL);

ALTER TABLE ONLY public.accounts
    ADD CONSTRAINT accounts_parent_id_fkey FOREIGN KEY (parent_id) REFERENCES public.accounts(id);

ALTER TABLE ONLY public.api_keys
    ADD CONSTRAINT api_keys_account_id_fkey FOREIGN KEY (account_id) REFERENCES public.accounts(id);

ALTER TABLE ONLY public.signing_secrets
    ADD CONSTRAINT signing_secrets_account_id_fkey FOREIGN KEY (account_id) REFERENCES public.accounts(id);

ALTER TABLE ONLY public.webhook_secrets
    ADD CONSTRAINT webhook_secrets_webhook_id_fkey FOREIGN KEY (webhook_id) REFERENCES public.webhooks(id);

ALTER TABLE ONLY public.webhooks
    ADD CONSTRAINT webhooks_account_id_fkey FOREIGN KEY (account_id) REFERENCES public.accounts(id);
