CREATE SCHEMA bus;

-- What leaves: written in the transaction of the change it tells, published by a relay.
CREATE TABLE bus.outbox (
    seq          bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    id           uuid        NOT NULL UNIQUE,
    producer     text        NOT NULL,
    source       text        NOT NULL,
    type         text        NOT NULL,
    subject      text,
    version      bigint,
    traceparent  text,
    -- What the trace's sender wants to be passed on (W3C Trace Context).
    tracestate   text,
    time         timestamptz NOT NULL,
    expires_at   timestamptz NOT NULL,
    exchange     text        NOT NULL,
    routing_key  text        NOT NULL,
    data         jsonb       NOT NULL,
    -- unwanted: nobody subscribes, which is normal; unrouted: a queue that the configuration wants was not bound.
    status       text        NOT NULL DEFAULT 'pending'
                 CHECK (status IN ('pending', 'sent', 'unwanted', 'unrouted', 'failed')),
    attempts     integer     NOT NULL DEFAULT 0,
    lease        uuid,
    leased_until timestamptz NOT NULL DEFAULT '-infinity',
    last_error   text,
    settled_at   timestamptz,
    -- A row whose body is not null is a message that is published again just as it was (an operator's redrive); its data is null.
    content_type text,
    headers      jsonb,
    body         bytea,
    -- How often the broker refused to keep it, and how often it closed the channel or the connection on it.
    refusals     integer     NOT NULL DEFAULT 0,
    suspicion    smallint    NOT NULL DEFAULT 0,
    -- Not before this is such a row tried again.
    retry_at     timestamptz
);

-- Not compressed, so that a lease can be bounded by bytes without reading them.
ALTER TABLE bus.outbox
    ALTER COLUMN data SET STORAGE EXTERNAL,
    ALTER COLUMN body SET STORAGE EXTERNAL;

-- Every row is written again when it is leased and when it is settled. With half of each page free the lease's version stays on its page and
-- touches no index (measured: a third of the time). A backlog's dead entries are removed while it drains, not when a fifth of the table is dead.
ALTER TABLE bus.outbox SET (
    fillfactor = 50,
    autovacuum_vacuum_scale_factor = 0,
    autovacuum_vacuum_threshold = 20000,
    autovacuum_vacuum_insert_scale_factor = 0,
    autovacuum_vacuum_insert_threshold = 100000,
    autovacuum_analyze_scale_factor = 0,
    autovacuum_analyze_threshold = 20000,
    autovacuum_vacuum_cost_delay = 0
);

-- No column that a lease changes (leased_until, lease, attempts) may stand in an index, or leases would touch every index.
-- By an expression that the primary key does not have. A relay asks for the first pending rows of each producer, and the planner, who thinks that every
-- producer has many, would look for them along the primary key: past every row of all the others, at each look, for a producer that has none.
CREATE INDEX outbox_pending ON bus.outbox (producer, (seq + 0)) WHERE status = 'pending' AND refusals = 0 AND suspicion = 0;
CREATE INDEX outbox_refused ON bus.outbox (producer, retry_at) WHERE status = 'pending' AND refusals > 0 AND suspicion = 0;
CREATE INDEX outbox_suspects ON bus.outbox (producer, retry_at) WHERE status = 'pending' AND suspicion > 0;
CREATE INDEX outbox_sent ON bus.outbox (settled_at) WHERE status IN ('sent', 'unwanted');
CREATE INDEX outbox_unrouted ON bus.outbox (producer, expires_at) WHERE status = 'unrouted';
CREATE INDEX outbox_failed ON bus.outbox (producer, seq) WHERE status = 'failed';

-- The patterns of what somebody is meant to get, written by `orrery migrate`: what handlers of any service bind, and what partners receive.
CREATE TABLE bus.wanted (
    pattern text PRIMARY KEY
);

-- The names of every service's handlers and of bridges' queues, written by `orrery migrate`.
CREATE TABLE bus.handlers (
    name text PRIMARY KEY
);

-- What arrived: a lease while it is worked on, a mark when it is done. Known by 16 bytes of a digest of handler, source and id (bus.inbox_key), and kept by
-- the week that a message's id tells (UUIDv7), which is the same whenever and however often the message comes. Week -1: its id tells none.
CREATE TABLE bus.inbox (
    key           uuid        NOT NULL,
    week          integer     NOT NULL,
    handler       text        NOT NULL,
    token         uuid        NOT NULL,
    claimed_until timestamptz NOT NULL,
    done_at       timestamptz,
    created_at    timestamptz NOT NULL DEFAULT now(),
    -- How often an effect may have happened without its mark: its claim ended by itself, or its handler could not tell.
    doubts        integer     NOT NULL DEFAULT 0,
    -- Its last try was a doubt: it is a dead letter, and is not tried again before an operator redrives it.
    given_up      boolean     NOT NULL DEFAULT false,
    PRIMARY KEY (key, week)
) PARTITION BY LIST (week);
CREATE INDEX inbox_created ON bus.inbox USING brin (created_at);
CREATE INDEX inbox_doubts ON bus.inbox (handler) WHERE doubts > 0;

-- What has no week of its own here: ids that tell none, weeks that are gone, clocks that are wrong.
CREATE TABLE bus.inbox_rest PARTITION OF bus.inbox DEFAULT;

-- The same as orrery_store::inbox, for operators, tests and the functions below.
CREATE FUNCTION bus.inbox_key(handler text, source text, id text) RETURNS uuid
    LANGUAGE sql IMMUTABLE PARALLEL SAFE SET search_path = pg_catalog
    RETURN encode(substring(sha256(
        convert_to(handler, 'UTF8') || '\x00'::bytea || convert_to(source, 'UTF8') || '\x00'::bytea || convert_to(id, 'UTF8')
    ) FROM 1 FOR 16), 'hex')::uuid;

CREATE FUNCTION bus.inbox_week(id text) RETURNS integer
    LANGUAGE sql IMMUTABLE PARALLEL SAFE SET search_path = pg_catalog
    RETURN CASE WHEN id ~ '^[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$'
        THEN (('x' || lpad(left(id, 8) || substring(id FROM 10 FOR 4), 16, '0'))::bit(64)::bigint / 604800000)::integer
        ELSE -1 END;

-- The keys of messages older than `keep` that stand in the outbox still, and can be published (again).
CREATE FUNCTION bus.inbox_unsent(keep interval) RETURNS SETOF uuid
    LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog SET enable_seqscan = on SET enable_bitmapscan = on
    BEGIN ATOMIC
        SELECT bus.inbox_key(handlers.name, outbox.source, outbox.id::text) FROM bus.outbox CROSS JOIN bus.handlers
            WHERE outbox.status IN ('pending', 'unrouted', 'failed') AND outbox.time < now() - keep;
    END;

-- Makes the partitions of this week and the three after it. Rows that came for one of them too early move into it.
CREATE FUNCTION bus.inbox_ahead() RETURNS integer
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog SET lock_timeout = '2s' SET enable_seqscan = on AS $$
DECLARE
    this integer := floor(extract(epoch FROM now()) / 604800);
    made integer := 0;
    name text;
BEGIN
    IF NOT pg_try_advisory_xact_lock(7165626) THEN
        RETURN 0;
    END IF;
    FOR week IN this - 1 .. this + 3 LOOP
        name := 'inbox_' || week;
        CONTINUE WHEN to_regclass('bus.' || name) IS NOT NULL;
        EXECUTE format('CREATE TABLE bus.%I (LIKE bus.inbox INCLUDING DEFAULTS)', name);
        EXECUTE format('WITH early AS (DELETE FROM bus.inbox_rest WHERE week = %s RETURNING *) INSERT INTO bus.%I SELECT * FROM early', week, name);
        EXECUTE format('ALTER TABLE bus.inbox ATTACH PARTITION bus.%I FOR VALUES IN (%s)', name, week);
        made := made + 1;
    END LOOP;
    RETURN made;
END
$$;

-- Drops one partition whose messages are older than `keep`; returns its name, or null when there is none. Rows that may be asked for still go to the rest: those
-- that were claimed late, those of dead letters, which can be tried again, and those of messages that stand in the outbox.
CREATE FUNCTION bus.inbox_drop(keep interval) RETURNS text
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog SET lock_timeout = '2s' SET statement_timeout = '60s'
    SET enable_seqscan = on SET enable_bitmapscan = on AS $$
DECLARE
    oldest integer;
    name text;
BEGIN
    IF NOT pg_try_advisory_xact_lock(7165626) THEN
        RETURN NULL;
    END IF;
    SELECT min(substring(relname FROM '^inbox_(\d+)$')::integer) INTO oldest
        FROM pg_inherits JOIN pg_class ON pg_class.oid = inhrelid WHERE inhparent = 'bus.inbox'::regclass;
    IF oldest IS NULL OR to_timestamp((oldest + 1) * 604800::bigint) > now() - keep THEN
        RETURN NULL;
    END IF;
    name := 'inbox_' || oldest;
    EXECUTE format('ALTER TABLE bus.inbox DETACH PARTITION bus.%I', name);
    EXECUTE format(
        'INSERT INTO bus.inbox SELECT * FROM bus.%1$I WHERE created_at >= now() - %2$L::interval '
        'UNION SELECT old.* FROM bus.dead_letters JOIN bus.%1$I AS old ON old.key = dead_letters.inbox_key '
        'UNION SELECT old.* FROM bus.inbox_unsent(%2$L::interval) AS unsent JOIN bus.%1$I AS old ON old.key = unsent', name, keep);
    EXECUTE format('DROP TABLE bus.%I', name);
    RETURN name;
END
$$;

-- What failed for good, until an operator decides.
CREATE TABLE bus.dead_letters (
    id           uuid PRIMARY KEY,
    handler      text        NOT NULL,
    letter       text        NOT NULL,
    -- Of the message in the handler's inbox, where it can be told: one message of a handler is one letter, however often it fails.
    inbox_key    uuid,
    source       text,
    event_id     text,
    type         text,
    reason       text        NOT NULL,
    causes       text[]      NOT NULL DEFAULT '{}',
    attempts     integer     NOT NULL,
    trace_id     text,
    failed_at    timestamptz NOT NULL,
    archived_at  timestamptz NOT NULL DEFAULT now(),
    content_type text,
    headers      jsonb       NOT NULL,
    body         bytea       NOT NULL,
    UNIQUE (handler, letter)
);
CREATE UNIQUE INDEX dead_letters_inbox ON bus.dead_letters (inbox_key);
CREATE INDEX dead_letters_failed ON bus.dead_letters (failed_at);
CREATE INDEX dead_letters_archived ON bus.dead_letters (archived_at);
-- Lists and commands go through letters by id, which is in the order of archiving; those of one handler too.
CREATE INDEX dead_letters_handler ON bus.dead_letters (handler, id);

DO $$ BEGIN PERFORM bus.inbox_ahead(); END $$;

REVOKE EXECUTE ON FUNCTION bus.inbox_ahead(), bus.inbox_drop(interval), bus.inbox_unsent(interval) FROM PUBLIC;
GRANT USAGE ON SCHEMA bus TO orrery_autha, orrery_maily, orrery_spinoza, orrery_partners, orrery_discovery, orrery_console;
GRANT SELECT, INSERT, UPDATE, DELETE ON bus.outbox TO orrery_autha, orrery_spinoza, orrery_partners, orrery_discovery, orrery_console;
GRANT SELECT ON bus.wanted TO orrery_autha, orrery_maily, orrery_spinoza, orrery_partners, orrery_discovery, orrery_console;
GRANT SELECT, INSERT, UPDATE, DELETE ON bus.inbox TO orrery_autha, orrery_maily, orrery_spinoza, orrery_partners, orrery_discovery, orrery_console;
-- What has no partition of its own is pruned row by row.
GRANT SELECT, UPDATE, DELETE ON bus.inbox_rest TO orrery_autha, orrery_maily, orrery_spinoza, orrery_partners, orrery_discovery, orrery_console;
GRANT SELECT, INSERT, DELETE ON bus.dead_letters TO orrery_autha, orrery_maily, orrery_spinoza, orrery_partners, orrery_discovery, orrery_console;
GRANT EXECUTE ON FUNCTION bus.inbox_ahead(), bus.inbox_drop(interval), bus.inbox_unsent(interval)
    TO orrery_autha, orrery_maily, orrery_spinoza, orrery_partners, orrery_discovery, orrery_console;
