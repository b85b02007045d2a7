-- Lists and commands go through letters by id, which is in the order of archiving; those of one handler too.
CREATE INDEX dead_letters_handler ON bus.dead_letters (handler, id);
-- What is stuck is counted often, and lies among millions of sent rows.
CREATE INDEX outbox_stuck ON bus.outbox (status) WHERE status IN ('unrouted', 'failed');
