ALTER TABLE bus.outbox DROP COLUMN tracestate;
