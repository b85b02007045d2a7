-- What operators did, and who is logged in at the console. Expand only; the rights below were used by nobody before.
CREATE SCHEMA console;
GRANT USAGE ON SCHEMA console TO orrery_console;

-- A line for each thing that an operator does: written before it is done, with its outcome after it.
CREATE TABLE console.audit (
    -- A UUIDv7, so the lines' own order.
    id          uuid PRIMARY KEY,
    at          timestamptz NOT NULL DEFAULT now(),
    -- Who: the name that the log-in was made for, or that of the command line's user.
    actor       text        NOT NULL,
    -- How: console or command line.
    face        text        NOT NULL CHECK (face IN ('console', 'cli')),
    -- What, such as dead.redrive.
    action      text        NOT NULL,
    -- To what: a choice, a queue, an actor. Nothing personal stands here.
    target      text        NOT NULL,
    -- How it ended; null while it is at work, and for ever when its process died.
    outcome     text,
    finished_at timestamptz
);
CREATE INDEX audit_at ON console.audit (at);

-- Log-ins: a link is used up by its row, and a session that was ended is known by it.
CREATE TABLE console.sessions (
    id         uuid PRIMARY KEY,
    actor      text        NOT NULL,
    begun_at   timestamptz NOT NULL DEFAULT now(),
    expires_at timestamptz NOT NULL,
    ended_at   timestamptz
);
CREATE INDEX sessions_expires ON console.sessions (expires_at);

GRANT SELECT, INSERT, DELETE ON console.audit, console.sessions TO orrery_console;
GRANT UPDATE (outcome, finished_at) ON console.audit TO orrery_console;
GRANT UPDATE (ended_at) ON console.sessions TO orrery_console;

-- What the console needs and no more: it reads of the outbox what kept a row and nothing of what the row tells, puts letters back and publishes again.
REVOKE ALL ON bus.outbox, bus.inbox, bus.inbox_rest, bus.dead_letters FROM orrery_console;
REVOKE EXECUTE ON FUNCTION bus.inbox_ahead(), bus.inbox_drop(interval), bus.inbox_unsent(interval) FROM orrery_console;
REVOKE INSERT, UPDATE ON orrery.key_checks FROM orrery_console;
GRANT SELECT (seq, id, producer, source, type, routing_key, exchange, time, expires_at, status, attempts, lease, leased_until, last_error, settled_at,
              refusals, suspicion, retry_at)
    ON bus.outbox TO orrery_console;
GRANT INSERT (id, producer, source, type, time, expires_at, exchange, routing_key, data, content_type, headers, body) ON bus.outbox TO orrery_console;
GRANT UPDATE (status, settled_at, attempts, refusals, suspicion, retry_at, last_error, lease, leased_until, expires_at) ON bus.outbox TO orrery_console;
GRANT SELECT, UPDATE (created_at, given_up) ON bus.inbox TO orrery_console;
-- To lock a letter while it is put back, one column of it has to be writable.
GRANT SELECT, DELETE, UPDATE (id) ON bus.dead_letters TO orrery_console;
