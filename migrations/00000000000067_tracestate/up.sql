-- What a trace's sender wants to be passed on (W3C Trace Context), beside the row's traceparent.
SET lock_timeout = '2s';
ALTER TABLE bus.outbox ADD COLUMN tracestate text;
