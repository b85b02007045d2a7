DROP INDEX bus.outbox_pending;
CREATE INDEX outbox_pending ON bus.outbox (producer, seq) WHERE status = 'pending' AND refusals = 0 AND suspicion = 0;
