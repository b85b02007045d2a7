-- Service providers: whose domains lead where, and what each may use. Operators write it through the console's role; a gateway in role forward reads it
-- by a role of its own, and counts there what was used. Expand only.
DO $$
DECLARE
    -- As in the first migration.
    membership text := CASE WHEN current_setting('server_version_num')::integer >= 160000 THEN 'SET' ELSE 'MEMBER' END;
BEGIN
    BEGIN
        CREATE ROLE orrery_gateway NOLOGIN;
    EXCEPTION WHEN duplicate_object OR unique_violation THEN
        NULL;
    END;
    IF NOT pg_has_role(current_user, 'orrery_gateway', membership) THEN
        EXECUTE format('GRANT orrery_gateway TO %I', current_user);
    END IF;
END
$$;

CREATE SCHEMA providers;
GRANT USAGE ON SCHEMA providers TO orrery_console, orrery_gateway;

CREATE TABLE providers.providers (
    -- A DNS label: the provider's sp-id.
    name                text PRIMARY KEY CHECK (name ~ '^[a-z]([a-z0-9-]{0,61}[a-z0-9])?$'),
    -- Where its reverse proxies are, as http://host:port.
    upstreams           text[]      NOT NULL CHECK (cardinality(upstreams) > 0),
    -- What people are shown, and the colour beside it (#rrggbb).
    title               text        NOT NULL,
    colour              text        CHECK (colour ~ '^#[0-9a-f]{6}$'),
    -- Limits that each gateway keeps for itself.
    requests_per_second integer     NOT NULL CHECK (requests_per_second BETWEEN 1 AND 1000000),
    concurrent          integer     NOT NULL CHECK (concurrent BETWEEN 1 AND 100000),
    created_at          timestamptz NOT NULL DEFAULT now()
);

-- Hosts, in small letters; one belongs to one provider.
CREATE TABLE providers.domains (
    domain   text PRIMARY KEY,
    provider text NOT NULL REFERENCES providers.providers ON DELETE CASCADE
);
CREATE INDEX domains_provider ON providers.domains (provider);

-- Grows with each change: who has this number has the table.
CREATE TABLE providers.revision (
    revision bigint NOT NULL
);
INSERT INTO providers.revision VALUES (0);

-- What was used in a day. Nobody is named.
CREATE TABLE providers.usage (
    provider       text   NOT NULL REFERENCES providers.providers ON DELETE CASCADE,
    day            date   NOT NULL,
    requests       bigint NOT NULL DEFAULT 0,
    -- Answers below 500.
    successes      bigint NOT NULL DEFAULT 0,
    -- Answers of 500 and above, and answers that broke off.
    failures       bigint NOT NULL DEFAULT 0,
    -- What the provider's limits refused; not among the requests.
    refused        bigint NOT NULL DEFAULT 0,
    bytes_received bigint NOT NULL DEFAULT 0,
    bytes_sent     bigint NOT NULL DEFAULT 0,
    PRIMARY KEY (provider, day)
);

GRANT SELECT, INSERT, UPDATE, DELETE ON providers.providers, providers.domains TO orrery_console;
GRANT SELECT, UPDATE ON providers.revision TO orrery_console;
GRANT SELECT ON providers.usage TO orrery_console;
GRANT SELECT (name, upstreams, requests_per_second, concurrent) ON providers.providers TO orrery_gateway;
GRANT SELECT ON providers.domains, providers.revision TO orrery_gateway;
GRANT SELECT, INSERT, UPDATE ON providers.usage TO orrery_gateway;
