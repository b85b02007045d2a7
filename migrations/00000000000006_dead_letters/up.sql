-- Lists and commands go through letters by id, which is in the order of archiving; those of one handler too.
CREATE INDEX dead_letters_handler ON bus.dead_letters (handler, id);
