DROP INDEX bus.outbox_stuck;
DROP INDEX bus.dead_letters_handler;
