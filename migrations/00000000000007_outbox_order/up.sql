-- By an expression that the primary key does not have. A relay asks for the first pending rows of each producer, and the planner, who thinks that every
-- producer has many, would look for them along the primary key: past every row of all the others, at each look, for a producer that has none.
DROP INDEX bus.outbox_pending;
CREATE INDEX outbox_pending ON bus.outbox (producer, (seq + 0)) WHERE status = 'pending' AND refusals = 0 AND suspicion = 0;
