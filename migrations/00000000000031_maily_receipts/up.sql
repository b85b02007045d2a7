-- Maily answers the deletion of an account with a receipt, by the outbox.
GRANT SELECT, INSERT, UPDATE, DELETE ON bus.outbox TO orrery_maily;
