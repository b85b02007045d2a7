-- Third parties over HTTP: who they are, the one log of events that they can read, and how far each of their endpoints is.
CREATE SCHEMA partners;

CREATE TABLE partners.partners (
    id                uuid PRIMARY KEY,
    -- The client id.
    name              text        NOT NULL UNIQUE,
    -- configuration: taken over from `broker.partners` at each start; command: made by `orrery partners` or the admin API.
    origin            text        NOT NULL CHECK (origin IN ('command', 'configuration')),
    -- Whether its tokens may have the scope of the admin API.
    is_operator       boolean     NOT NULL DEFAULT false,
    -- The sources that it may claim: whole, or the beginning of one before a '*'.
    sources           text[]      NOT NULL DEFAULT '{}',
    -- Types that it may send and receive, as patterns of a topic exchange.
    publishes         text[]      NOT NULL DEFAULT '{}',
    receives          text[]      NOT NULL DEFAULT '{}',
    -- Null: the setting's.
    events_per_minute integer     CHECK (events_per_minute > 0),
    max_endpoints     integer     CHECK (max_endpoints >= 0),
    -- Sealed: whom to tell when an endpoint is disabled.
    contact           text,
    locale            text        NOT NULL DEFAULT 'en',
    created_at        timestamptz NOT NULL DEFAULT now(),
    disabled_at       timestamptz
);

-- Client secrets. At most two of a partner are valid at once.
CREATE TABLE partners.keys (
    id         uuid PRIMARY KEY,
    partner    uuid        NOT NULL REFERENCES partners.partners ON DELETE CASCADE,
    -- SHA-256 of a secret of 256 random bits.
    digest     bytea       NOT NULL UNIQUE CHECK (octet_length(digest) = 32),
    created_at timestamptz NOT NULL DEFAULT now(),
    -- Null: until it is rotated.
    expires_at timestamptz
);
CREATE INDEX keys_partner ON partners.keys (partner);

-- The JSON Schemas of types that partners send. A later version accepts all that the one before accepted.
CREATE TABLE partners.schemas (
    type       text        NOT NULL,
    version    integer     NOT NULL,
    schema     jsonb       NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (type, version)
);

-- The log: every event once, ours and partners'. A row is written in the transaction that publishes the event, without a position; `place` gives it one
-- after the commit. So positions become visible in their order, and a reader that remembers the last one misses nothing.
CREATE TABLE partners.log (
    seq       bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    -- 16 bytes of a digest of sender, source and id: the same event comes in once, and leaves under this id.
    key       uuid        NOT NULL UNIQUE,
    position  bigint UNIQUE,
    -- The partner; null for our own.
    sender    uuid,
    type      text        NOT NULL,
    -- The event in CloudEvents' JSON format, as it is delivered.
    event     bytea       NOT NULL,
    logged_at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX log_unplaced ON partners.log (seq) WHERE position IS NULL;
CREATE INDEX log_logged ON partners.log (logged_at);

-- The last position that was given. Its row is also the lock under which positions are given.
CREATE TABLE partners.head (
    position bigint NOT NULL
);
INSERT INTO partners.head VALUES (0);

-- Gives positions to at most `most` rows of the log, in the order in which they were written; returns the last position.
CREATE FUNCTION partners.place(most integer) RETURNS bigint
    LANGUAGE plpgsql SET search_path = pg_catalog SET enable_seqscan = on AS $$
DECLARE
    last bigint;
    rows bigint[];
    n    integer := 0;
BEGIN
    IF NOT EXISTS (SELECT FROM partners.log WHERE position IS NULL) THEN
        RETURN (SELECT position FROM partners.head);
    END IF;
    SELECT position INTO last FROM partners.head FOR UPDATE;
    rows := ARRAY(SELECT seq FROM partners.log WHERE position IS NULL ORDER BY seq LIMIT most);
    UPDATE partners.log SET position = last + placed.n
        FROM unnest(rows) WITH ORDINALITY AS placed(seq, n) WHERE log.seq = placed.seq;
    n := coalesce(cardinality(rows), 0);
    IF n > 0 THEN
        UPDATE partners.head SET position = last + n;
    END IF;
    RETURN last + n;
END
$$;

CREATE TABLE partners.endpoints (
    id              uuid PRIMARY KEY,
    partner         uuid        NOT NULL REFERENCES partners.partners ON DELETE CASCADE,
    url             text        NOT NULL,
    -- Beginnings of types; none: all that the partner may receive.
    types           text[]      NOT NULL DEFAULT '{}',
    -- Attributes that must have exactly these values.
    attributes      jsonb       NOT NULL DEFAULT '{}',
    -- CloudEvents SQL.
    filter          text,
    -- Deliveries a minute that it wants at most, and that its handshake allowed; null: no limit.
    rate            integer     CHECK (rate > 0),
    allowed_rate    integer     CHECK (allowed_rate > 0),
    concurrency     integer     NOT NULL CHECK (concurrency > 0),
    -- One event of a subject after the other.
    ordered         boolean     NOT NULL DEFAULT false,
    -- Sealed; the one before it signs too until its time is over.
    secret          text        NOT NULL,
    previous_secret text,
    previous_until  timestamptz,
    -- pending: its handshake was not answered yet.
    state           text        NOT NULL CHECK (state IN ('pending', 'active', 'disabled')),
    -- Why it is disabled, or pending.
    reason          text,
    -- Whether the receiver at this url has allowed deliveries.
    confirmed       boolean     NOT NULL DEFAULT false,
    -- An operator disabled it: its partner cannot enable it.
    held            boolean     NOT NULL DEFAULT false,
    -- What its receiver may confirm the handshake by: SHA-256 of a one-time secret.
    confirmation    bytea,
    -- Everything up to it was delivered, stands in `deliveries`, or was not for it.
    cursor          bigint      NOT NULL,
    failing_since   timestamptz,
    -- Raised with every change that its worker has to hear of.
    version         integer     NOT NULL DEFAULT 1,
    -- The process that delivers to it.
    lease           uuid,
    leased_until    timestamptz NOT NULL DEFAULT '-infinity',
    created_at      timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX endpoints_partner ON partners.endpoints (partner);
CREATE INDEX endpoints_active ON partners.endpoints (leased_until) WHERE state = 'active';
CREATE INDEX endpoints_lease ON partners.endpoints (lease);
-- Cursors move all the time.
ALTER TABLE partners.endpoints SET (fillfactor = 50);

-- What an endpoint did not take, until it does: to be tried again, or dead.
CREATE TABLE partners.deliveries (
    endpoint    uuid        NOT NULL REFERENCES partners.endpoints ON DELETE CASCADE,
    position    bigint      NOT NULL,
    state       text        NOT NULL CHECK (state IN ('retry', 'dead')),
    key         uuid        NOT NULL,
    type        text        NOT NULL,
    subject     text,
    event       bytea       NOT NULL,
    attempts    integer     NOT NULL,
    first_at    timestamptz NOT NULL,
    next_at     timestamptz NOT NULL,
    -- Why the last try failed: words of ours, and the status that was answered.
    last_error  text        NOT NULL,
    last_status integer,
    PRIMARY KEY (endpoint, position)
);
CREATE INDEX deliveries_due ON partners.deliveries (endpoint, next_at) WHERE state = 'retry';
CREATE INDEX deliveries_dead ON partners.deliveries (endpoint, position) WHERE state = 'dead';
CREATE INDEX deliveries_old ON partners.deliveries (next_at) WHERE state = 'dead';

REVOKE EXECUTE ON FUNCTION partners.place(integer) FROM PUBLIC;
GRANT USAGE ON SCHEMA partners TO orrery_partners;
GRANT SELECT, INSERT, UPDATE, DELETE ON partners.partners, partners.keys, partners.schemas, partners.log, partners.endpoints, partners.deliveries TO orrery_partners;
GRANT SELECT, UPDATE ON partners.head TO orrery_partners;
GRANT EXECUTE ON FUNCTION partners.place(integer) TO orrery_partners;

-- Operators see who there is and how far each endpoint is, and have deliveries tried again: no secret, no address, nothing of what an event tells.
GRANT USAGE ON SCHEMA partners TO orrery_console;
GRANT SELECT (id, name, is_operator, publishes, receives, disabled_at) ON partners.partners TO orrery_console;
GRANT SELECT (id, partner, url, state, reason, confirmed, held, cursor, failing_since, version) ON partners.endpoints TO orrery_console;
GRANT UPDATE (state, reason, held, version, failing_since) ON partners.endpoints TO orrery_console;
GRANT SELECT (endpoint, position, state, key, type, attempts, first_at, next_at, last_error, last_status) ON partners.deliveries TO orrery_console;
GRANT UPDATE (state, attempts, first_at, next_at) ON partners.deliveries TO orrery_console;
GRANT SELECT ON partners.head TO orrery_console;
