CREATE SCHEMA autha;

CREATE TABLE autha.accounts (
    id            uuid PRIMARY KEY,
    -- The look-up key of the vanity name, lower-cased; `username` keeps the case it was typed in.
    vanity        text        NOT NULL UNIQUE,
    username      text        NOT NULL,
    email_hash    bytea       NOT NULL UNIQUE,
    email_sealed  text        NOT NULL,
    password_hash text        NOT NULL,
    locale        text        NOT NULL,
    summary       text,
    flags         integer     NOT NULL DEFAULT 0,
    version       bigint      NOT NULL DEFAULT 1,
    -- The upload whose result is wanted, and the one whose variants are shown meanwhile.
    avatar_upload uuid,
    icon_upload   uuid,
    created_at    timestamptz NOT NULL,
    deleted_at    timestamptz
);

CREATE TABLE autha.uploads (
    id          uuid PRIMARY KEY,
    account     uuid        NOT NULL REFERENCES autha.accounts ON DELETE CASCADE,
    state       text        NOT NULL DEFAULT 'pending'
                CHECK (state IN ('pending', 'done', 'rejected', 'replaced')),
    object_key  text        NOT NULL,
    media_type  text        NOT NULL,
    size_bytes  bigint      NOT NULL,
    digest      text        NOT NULL,
    code        text,
    reason      text,
    created_at  timestamptz NOT NULL,
    settled_at  timestamptz
);
CREATE INDEX uploads_account ON autha.uploads (account, created_at);

CREATE TABLE autha.variants (
    upload     uuid    NOT NULL REFERENCES autha.uploads ON DELETE CASCADE,
    width      integer NOT NULL,
    object_key text    NOT NULL UNIQUE,
    media_type text    NOT NULL,
    size_bytes bigint  NOT NULL,
    PRIMARY KEY (upload, width)
);

CREATE TABLE autha.refresh_tokens (
    hash       bytea PRIMARY KEY,
    family     uuid        NOT NULL,
    account    uuid        NOT NULL REFERENCES autha.accounts ON DELETE CASCADE,
    issued_at  timestamptz NOT NULL,
    expires_at timestamptz NOT NULL,
    used_at    timestamptz,
    successor  bytea
);
CREATE INDEX refresh_tokens_family ON autha.refresh_tokens (family);
CREATE INDEX refresh_tokens_account ON autha.refresh_tokens (account);
CREATE INDEX refresh_tokens_expiry ON autha.refresh_tokens (expires_at);

CREATE TABLE autha.signing_keys (
    kid         text PRIMARY KEY,
    sealed      text        NOT NULL,
    public_jwk  jsonb       NOT NULL,
    created_at  timestamptz NOT NULL,
    signs_from  timestamptz NOT NULL,
    retires_at  timestamptz NOT NULL
);

-- Answers to requests that carried an Idempotency-Key, sealed, so that a repeated request gets the same one.
CREATE TABLE autha.idempotency_keys (
    key_hash   bytea PRIMARY KEY,
    request    bytea       NOT NULL,
    answer     text        NOT NULL,
    created_at timestamptz NOT NULL
);
CREATE INDEX idempotency_keys_created ON autha.idempotency_keys (created_at);

GRANT USAGE ON SCHEMA autha TO orrery_autha;
GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA autha TO orrery_autha;
