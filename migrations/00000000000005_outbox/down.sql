DROP INDEX bus.dead_letters_event, bus.dead_letters_archived;
REVOKE DELETE ON bus.dead_letters FROM orrery_autha, orrery_maily, orrery_spinoza;
REVOKE SELECT (id, status) ON bus.outbox FROM orrery_maily;
DROP INDEX bus.outbox_pending, bus.outbox_refused, bus.outbox_suspects, bus.outbox_sent, bus.outbox_unrouted, bus.outbox_failed;
CREATE INDEX outbox_pending ON bus.outbox (producer, seq) WHERE status = 'pending';
CREATE INDEX outbox_settled ON bus.outbox (settled_at) WHERE status <> 'pending';
ALTER TABLE bus.outbox RESET (
    fillfactor, autovacuum_vacuum_scale_factor, autovacuum_vacuum_threshold, autovacuum_vacuum_insert_scale_factor,
    autovacuum_vacuum_insert_threshold, autovacuum_analyze_scale_factor, autovacuum_analyze_threshold, autovacuum_vacuum_cost_delay
);
ALTER TABLE bus.outbox
    DROP COLUMN content_type, DROP COLUMN headers, DROP COLUMN body, DROP COLUMN refusals, DROP COLUMN suspicion, DROP COLUMN retry_at,
    ALTER COLUMN data SET STORAGE EXTENDED;
