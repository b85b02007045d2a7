DROP TABLE orrery.key_checks;
-- The roles stay: they belong to the cluster, and another database may use them.
