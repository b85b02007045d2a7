-- What maily has to know when it sends. It can read no table of an account's: an address stands here as a keyed digest only.
CREATE SCHEMA maily;
GRANT USAGE ON SCHEMA maily TO orrery_maily;

-- Addresses that mail came back from.
CREATE TABLE maily.suppressed (
    -- HMAC-SHA-256 of the address, under a key made of the mail key.
    address_hash bytea PRIMARY KEY CHECK (octet_length(address_hash) = 32),
    -- The enhanced status of the report, such as 5.1.1.
    reason text NOT NULL,
    since timestamptz NOT NULL
);

-- Accounts that are gone: a mail that still waits for one of them is dropped. Kept for as long as a mail can wait.
CREATE TABLE maily.deleted_accounts (
    account uuid PRIMARY KEY,
    deleted_at timestamptz NOT NULL
);
CREATE INDEX deleted_accounts_deleted_at ON maily.deleted_accounts (deleted_at);

GRANT SELECT, INSERT, UPDATE, DELETE ON maily.suppressed, maily.deleted_accounts TO orrery_maily;
-- It answers the deletion of an account with a receipt, by the outbox.
GRANT SELECT, INSERT, UPDATE, DELETE ON bus.outbox TO orrery_maily;
