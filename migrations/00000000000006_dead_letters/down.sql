DROP INDEX bus.dead_letters_handler;
