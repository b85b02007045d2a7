-- A role per service that keeps something here. Roles belong to the cluster, not to the database: another database's migration may make them at the same time.
DO $$
DECLARE
    role text;
    -- Since PostgreSQL 16 whoever makes a role is its member without the right to become it.
    membership text := CASE WHEN current_setting('server_version_num')::integer >= 160000 THEN 'SET' ELSE 'MEMBER' END;
BEGIN
    FOREACH role IN ARRAY ARRAY['orrery_autha', 'orrery_maily', 'orrery_spinoza', 'orrery_partners', 'orrery_discovery', 'orrery_console'] LOOP
        BEGIN
            EXECUTE format('CREATE ROLE %I NOLOGIN', role);
        EXCEPTION WHEN duplicate_object OR unique_violation THEN
            NULL;
        END;
        -- Services connect as the user of the configuration and step down to their role.
        IF NOT pg_has_role(current_user, role, membership) THEN
            EXECUTE format('GRANT %I TO %I', role, current_user);
        END IF;
    END LOOP;
END
$$;

-- The installation's own: which migrations have run (the table is diesel's), and by what its keys are known again.
CREATE TABLE orrery.key_checks (
    name   text PRIMARY KEY,
    -- A known text, sealed under the key of that name.
    sealed text NOT NULL
);
-- To see which migrations have run: each service waits for its own version.
GRANT SELECT ON orrery.__diesel_schema_migrations TO orrery_autha, orrery_maily, orrery_spinoza, orrery_partners, orrery_discovery, orrery_console;
GRANT USAGE ON SCHEMA orrery TO orrery_autha, orrery_maily, orrery_spinoza, orrery_partners, orrery_discovery, orrery_console;
GRANT SELECT, INSERT, UPDATE ON orrery.key_checks TO orrery_autha, orrery_maily, orrery_spinoza, orrery_partners, orrery_discovery, orrery_console;
