-- The role and the database of one service provider, in the server that all share: run as its superuser by database.yaml, harmless to repeat.
-- SP_ID names both, PASSWORD is the role's. Nobody else's role is let into the database, and this role into no other one.
\set ON_ERROR_STOP on
\getenv provider SP_ID
\getenv password PASSWORD
SET client_min_messages = warning;

-- A provider called as a role that is no provider's would take it over.
SELECT EXISTS (SELECT FROM pg_roles WHERE rolname = :'provider' AND shobj_description(oid, 'pg_authid') IS DISTINCT FROM 'service provider') AS taken \gset
\if :taken
  DO $$ BEGIN RAISE EXCEPTION 'this sp-id is the name of a role that is no service provider''s: choose another one'; END $$;
\endif

SELECT format('CREATE ROLE %I', :'provider') WHERE NOT EXISTS (SELECT FROM pg_roles WHERE rolname = :'provider') \gexec
COMMENT ON ROLE :"provider" IS 'service provider';
-- The server takes 200 connections: one provider does not use up all of them.
ALTER ROLE :"provider" LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION NOBYPASSRLS CONNECTION LIMIT 40 PASSWORD :'password';

SELECT format('CREATE DATABASE %I OWNER %I', :'provider', :'provider') WHERE NOT EXISTS (SELECT FROM pg_database WHERE datname = :'provider') \gexec
REVOKE ALL ON DATABASE :"provider" FROM PUBLIC;

-- By default every role may connect to every database.
SELECT format('REVOKE CONNECT, TEMPORARY ON DATABASE %I FROM PUBLIC', datname) FROM pg_database WHERE datallowconn AND datname IN (current_database(), 'postgres', 'template1') \gexec
