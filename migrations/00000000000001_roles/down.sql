-- Roles stay: other databases of the cluster may use them.
SELECT 1;
