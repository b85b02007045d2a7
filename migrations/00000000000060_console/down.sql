REVOKE ALL ON bus.outbox, bus.inbox, bus.inbox_rest, bus.dead_letters FROM orrery_console;
GRANT SELECT, INSERT, UPDATE, DELETE ON bus.outbox TO orrery_console;
GRANT SELECT, INSERT, UPDATE, DELETE ON bus.inbox TO orrery_console;
GRANT SELECT, UPDATE, DELETE ON bus.inbox_rest TO orrery_console;
GRANT SELECT, INSERT, DELETE ON bus.dead_letters TO orrery_console;
GRANT EXECUTE ON FUNCTION bus.inbox_ahead(), bus.inbox_drop(interval), bus.inbox_unsent(interval) TO orrery_console;
GRANT INSERT, UPDATE ON orrery.key_checks TO orrery_console;
DROP SCHEMA console CASCADE;
