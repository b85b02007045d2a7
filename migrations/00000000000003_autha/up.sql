CREATE SCHEMA autha;

CREATE TABLE autha.accounts (
    id                uuid PRIMARY KEY,
    -- The look-up key of the vanity name, lower-cased; `username` is what is shown.
    vanity            text        NOT NULL UNIQUE,
    username          text        NOT NULL,
    -- HMAC of the address's normal form; that form and the address as typed, sealed.
    email_hash        bytea       NOT NULL UNIQUE,
    email_normal      text        NOT NULL,
    email_typed       text        NOT NULL,
    email_verified_at timestamptz,
    locale            text        NOT NULL,
    summary           text,
    flags             integer     NOT NULL DEFAULT 0,
    version           bigint      NOT NULL DEFAULT 1,
    -- The upload whose result is wanted, and the one whose variants are shown meanwhile.
    avatar_upload     uuid,
    icon_upload       uuid,
    created_at        timestamptz NOT NULL,
    suspended_at      timestamptz,
    -- Asked to be deleted: restorable until then.
    purge_at          timestamptz
);
CREATE INDEX accounts_created ON autha.accounts (created_at, id);
CREATE INDEX accounts_purge ON autha.accounts (purge_at) WHERE purge_at IS NOT NULL;

-- Accounts that may ask for the scope `admin`.
CREATE TABLE autha.operators (
    account    uuid PRIMARY KEY REFERENCES autha.accounts ON DELETE CASCADE,
    granted_at timestamptz NOT NULL
);

-- Names that were somebody's and are never given again; SHA-256 of the look-up key.
CREATE TABLE autha.tombstones (
    name_hash  bytea PRIMARY KEY,
    created_at timestamptz NOT NULL
);

-- What proves who somebody is. A passkey has its credential id as `handle` and its public side in `data`.
CREATE TABLE autha.credentials (
    id         uuid PRIMARY KEY,
    account    uuid        NOT NULL REFERENCES autha.accounts ON DELETE CASCADE,
    kind       text        NOT NULL CHECK (kind IN ('password', 'totp', 'recovery_code', 'passkey')),
    -- A password hash (PHC, or as it was imported), a sealed TOTP secret, the hash of a recovery code.
    secret     text        NOT NULL,
    handle     bytea UNIQUE,
    label      text,
    data       jsonb,
    -- The last TOTP step that was used, or a passkey's signature counter.
    counter    bigint      NOT NULL DEFAULT 0,
    created_at timestamptz NOT NULL,
    used_at    timestamptz
);
CREATE INDEX credentials_account ON autha.credentials (account, kind);
CREATE UNIQUE INDEX credentials_single ON autha.credentials (account, kind) WHERE kind IN ('password', 'totp');

-- A login. `client` is null for the instance's own clients.
CREATE TABLE autha.sessions (
    id               uuid PRIMARY KEY,
    account          uuid        NOT NULL REFERENCES autha.accounts ON DELETE CASCADE,
    client           uuid,
    scopes           text        NOT NULL,
    -- RFC 8176 names: pwd, otp, ...
    methods          text[]      NOT NULL,
    -- What the client says it is, sealed.
    device           text,
    authenticated_at timestamptz NOT NULL,
    created_at       timestamptz NOT NULL,
    used_at          timestamptz NOT NULL,
    ended_at         timestamptz
);
CREATE INDEX sessions_account ON autha.sessions (account, created_at);
CREATE INDEX sessions_used ON autha.sessions (used_at);

CREATE TABLE autha.refresh_tokens (
    hash       bytea PRIMARY KEY,
    session    uuid        NOT NULL REFERENCES autha.sessions ON DELETE CASCADE,
    issued_at  timestamptz NOT NULL,
    expires_at timestamptz NOT NULL,
    used_at    timestamptz,
    successor  bytea
);
CREATE INDEX refresh_tokens_session ON autha.refresh_tokens (session);
CREATE INDEX refresh_tokens_expiry ON autha.refresh_tokens (expires_at);

-- One-time secrets that are sent by mail, or handed out by an operator. Only their hashes are kept.
CREATE TABLE autha.challenges (
    id          uuid PRIMARY KEY,
    account     uuid REFERENCES autha.accounts ON DELETE CASCADE,
    purpose     text        NOT NULL
                CHECK (purpose IN ('verify', 'recover', 'change_address', 'take_back', 'restore', 'invite', 'step_up')),
    secret_hash bytea       NOT NULL UNIQUE,
    -- What it is for, such as the address to change to; sealed for the challenge.
    data        text,
    -- HMAC of an address that its account can take back: nobody else's until then.
    email_hash  bytea,
    uses_left   integer     NOT NULL DEFAULT 1,
    created_at  timestamptz NOT NULL,
    expires_at  timestamptz NOT NULL
);
CREATE INDEX challenges_email ON autha.challenges (email_hash) WHERE email_hash IS NOT NULL;
CREATE INDEX challenges_account ON autha.challenges (account, purpose);
CREATE INDEX challenges_expiry ON autha.challenges (expires_at);

-- Keys that clients hold and profiles show.
CREATE TABLE autha.public_keys (
    id          bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    account     uuid        NOT NULL REFERENCES autha.accounts ON DELETE CASCADE,
    pem         text        NOT NULL,
    -- SHA-256 of the key's DER (SPKI).
    fingerprint bytea       NOT NULL,
    created_at  timestamptz NOT NULL,
    UNIQUE (account, fingerprint)
);

CREATE TABLE autha.uploads (
    id          uuid PRIMARY KEY,
    -- The id in its pictures' addresses. It stands in no message, so that nothing leads from a name to the internal id.
    public      uuid        NOT NULL UNIQUE DEFAULT gen_random_uuid(),
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
    PRIMARY KEY (upload, width, media_type)
);

-- The signing key is the active one of the highest generation; no time decides it. All times are the database's.
CREATE TABLE autha.signing_keys (
    kid          text PRIMARY KEY,
    generation   bigint GENERATED ALWAYS AS IDENTITY,
    sealed       text        NOT NULL,
    public_jwk   jsonb       NOT NULL,
    state        text        NOT NULL DEFAULT 'published' CHECK (state IN ('published', 'active', 'retired')),
    created_at   timestamptz NOT NULL DEFAULT now(),
    activated_at timestamptz,
    retired_at   timestamptz
);

-- Which replica has published which key since when; a key becomes active when all that live have had it for the JWKS's lifetime.
CREATE TABLE autha.publications (
    replica uuid        NOT NULL,
    kid     text        NOT NULL REFERENCES autha.signing_keys ON DELETE CASCADE,
    since   timestamptz NOT NULL DEFAULT now(),
    seen_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (replica, kid)
);

-- Answers to requests that carried an Idempotency-Key, sealed, so that a repeated request gets the same one.
CREATE TABLE autha.idempotency_keys (
    key_hash   bytea PRIMARY KEY,
    request    bytea       NOT NULL,
    answer     text        NOT NULL,
    created_at timestamptz NOT NULL
);
CREATE INDEX idempotency_keys_created ON autha.idempotency_keys (created_at);

-- Attempts by keyed digests of what they concern. Not logged: a crash forgets them, and nothing else is lost.
CREATE UNLOGGED TABLE autha.throttle (
    key           bytea PRIMARY KEY,
    hits          integer     NOT NULL,
    window_ends   timestamptz NOT NULL,
    blocked_until timestamptz NOT NULL DEFAULT '-infinity'
);
CREATE INDEX throttle_window ON autha.throttle (window_ends);

-- Who did what. Names and what a person could be told by are sealed.
CREATE TABLE autha.audit (
    id      uuid PRIMARY KEY,
    at      timestamptz NOT NULL,
    action  text        NOT NULL,
    account uuid,
    actor   text        NOT NULL,
    subject text,
    detail  text
);
CREATE INDEX audit_at ON autha.audit (at, id);
CREATE INDEX audit_account ON autha.audit (account, at);

-- Archives of everything that is held about a person.
CREATE TABLE autha.exports (
    id           uuid PRIMARY KEY,
    account      uuid        NOT NULL REFERENCES autha.accounts ON DELETE CASCADE,
    state        text        NOT NULL DEFAULT 'pending'
                 CHECK (state IN ('pending', 'ready', 'fetched', 'expired', 'failed')),
    object_key   text,
    size_bytes   bigint,
    attempts     integer     NOT NULL DEFAULT 0,
    lease        uuid,
    leased_until timestamptz NOT NULL DEFAULT '-infinity',
    created_at   timestamptz NOT NULL,
    ready_at     timestamptz,
    expires_at   timestamptz
);
CREATE INDEX exports_account ON autha.exports (account, created_at);
CREATE INDEX exports_pending ON autha.exports (created_at) WHERE state IN ('pending', 'ready', 'fetched');

-- Files of accounts that were moved in, known by their digest, so that an import goes on where it stopped.
CREATE TABLE autha.imports (
    id          uuid PRIMARY KEY,
    format      text        NOT NULL,
    digest      bytea       NOT NULL,
    position    bigint      NOT NULL DEFAULT 0,
    imported    bigint      NOT NULL DEFAULT 0,
    left_out    bigint      NOT NULL DEFAULT 0,
    created_at  timestamptz NOT NULL,
    finished_at timestamptz,
    UNIQUE (format, digest)
);
CREATE TABLE autha.import_faults (
    import uuid   NOT NULL REFERENCES autha.imports ON DELETE CASCADE,
    record bigint NOT NULL,
    code   text   NOT NULL,
    reason text   NOT NULL,
    PRIMARY KEY (import, record)
);

-- Accounts whose rows are gone, and who has said that it holds nothing of them any more.
CREATE TABLE autha.deletions (
    account   uuid PRIMARY KEY,
    purged_at timestamptz NOT NULL,
    -- The folders of the bucket that were not yet emptied.
    objects   text[]      NOT NULL DEFAULT '{}'
);
CREATE INDEX deletions_purged ON autha.deletions (purged_at);
CREATE INDEX deletions_objects ON autha.deletions (purged_at) WHERE objects <> '{}';
CREATE TABLE autha.deletion_receipts (
    account     uuid        NOT NULL REFERENCES autha.deletions ON DELETE CASCADE,
    holder      text        NOT NULL,
    received_at timestamptz NOT NULL,
    PRIMARY KEY (account, holder)
);

GRANT USAGE ON SCHEMA autha TO orrery_autha;
GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA autha TO orrery_autha;
GRANT USAGE ON ALL SEQUENCES IN SCHEMA autha TO orrery_autha;
