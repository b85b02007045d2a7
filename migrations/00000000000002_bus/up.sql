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
    time         timestamptz NOT NULL,
    expires_at   timestamptz NOT NULL,
    exchange     text        NOT NULL,
    routing_key  text        NOT NULL,
    data         jsonb       NOT NULL,
    status       text        NOT NULL DEFAULT 'pending'
                 CHECK (status IN ('pending', 'sent', 'unrouted', 'failed')),
    attempts     integer     NOT NULL DEFAULT 0,
    lease        uuid,
    leased_until timestamptz NOT NULL DEFAULT '-infinity',
    last_error   text,
    settled_at   timestamptz
);
CREATE INDEX outbox_pending ON bus.outbox (producer, seq) WHERE status = 'pending';
CREATE INDEX outbox_settled ON bus.outbox (settled_at) WHERE status <> 'pending';

-- What arrived: a lease while it is worked on, a mark when it is done.
CREATE TABLE bus.inbox (
    handler       text        NOT NULL,
    source        text        NOT NULL,
    id            text        NOT NULL,
    token         uuid        NOT NULL,
    claimed_until timestamptz NOT NULL,
    done_at       timestamptz,
    created_at    timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (handler, source, id)
);
CREATE INDEX inbox_created ON bus.inbox (created_at);

-- What failed for good, until an operator decides.
CREATE TABLE bus.dead_letters (
    id           uuid PRIMARY KEY,
    handler      text        NOT NULL,
    letter       text        NOT NULL,
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
CREATE INDEX dead_letters_failed ON bus.dead_letters (failed_at);

GRANT USAGE ON SCHEMA bus TO orrery_autha, orrery_maily, orrery_spinoza;
GRANT SELECT, INSERT, UPDATE, DELETE ON bus.outbox TO orrery_autha, orrery_spinoza;
GRANT SELECT, INSERT, UPDATE, DELETE ON bus.inbox TO orrery_autha, orrery_maily, orrery_spinoza;
GRANT SELECT, INSERT ON bus.dead_letters TO orrery_autha, orrery_maily, orrery_spinoza;
