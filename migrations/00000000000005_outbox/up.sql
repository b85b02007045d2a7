-- A row whose body is not null is a message that is published again just as it was (an operator's redrive); its data is null.
ALTER TABLE bus.outbox
    ADD COLUMN content_type text,
    ADD COLUMN headers      jsonb,
    ADD COLUMN body         bytea,
    -- How often the broker refused to keep it, and how often it closed the channel or the connection on it.
    ADD COLUMN refusals     integer  NOT NULL DEFAULT 0,
    ADD COLUMN suspicion    smallint NOT NULL DEFAULT 0,
    -- Not before this is such a row tried again.
    ADD COLUMN retry_at     timestamptz,
    -- Not compressed, so that a lease can be bounded by bytes without reading them.
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

DROP INDEX bus.outbox_pending;
DROP INDEX bus.outbox_settled;
-- No column that a lease changes (leased_until, lease, attempts) may stand in an index, or leases would touch every index.
CREATE INDEX outbox_pending ON bus.outbox (producer, seq) WHERE status = 'pending' AND refusals = 0 AND suspicion = 0;
CREATE INDEX outbox_refused ON bus.outbox (producer, retry_at) WHERE status = 'pending' AND refusals > 0 AND suspicion = 0;
CREATE INDEX outbox_suspects ON bus.outbox (producer, retry_at) WHERE status = 'pending' AND suspicion > 0;
CREATE INDEX outbox_sent ON bus.outbox (settled_at) WHERE status = 'sent';
CREATE INDEX outbox_unrouted ON bus.outbox (producer, expires_at) WHERE status = 'unrouted';
CREATE INDEX outbox_failed ON bus.outbox (producer, seq) WHERE status = 'failed';

-- Whoever prunes its inbox asks which messages are still on their way, and which are dead letters.
GRANT SELECT (id, status) ON bus.outbox TO orrery_maily;
GRANT DELETE ON bus.dead_letters TO orrery_autha, orrery_maily, orrery_spinoza;
CREATE INDEX dead_letters_event ON bus.dead_letters (event_id);
CREATE INDEX dead_letters_archived ON bus.dead_letters (archived_at);
