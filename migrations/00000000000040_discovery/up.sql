-- What discovery keeps of its peers. No name stands here: a peer is a keyed digest of its name (HMAC-SHA-256 under a key made of
-- `keys.discovery`), and what has to be read again is sealed.
CREATE SCHEMA discovery;
GRANT USAGE ON SCHEMA discovery TO orrery_discovery;

-- Who may see a peer; one without a row, or without a choice, has the default of the configuration.
CREATE TABLE discovery.peers (
    peer bytea PRIMARY KEY CHECK (octet_length(peer) = 32),
    visibility text CHECK (visibility IN ('public', 'contacts', 'hidden')),
    -- When this or a relation of the peer changed: replicas look for it.
    changed_at timestamptz NOT NULL
);
CREATE INDEX peers_changed_at ON discovery.peers (changed_at);

-- Whom a peer knows, and whom it wants to hear nothing of.
CREATE TABLE discovery.relations (
    peer bytea NOT NULL CHECK (octet_length(peer) = 32),
    other bytea NOT NULL CHECK (octet_length(other) = 32),
    kind text NOT NULL CHECK (kind IN ('contact', 'blocked')),
    -- The other's name, sealed.
    name text NOT NULL,
    created_at timestamptz NOT NULL,
    PRIMARY KEY (peer, other)
);
CREATE INDEX relations_other ON discovery.relations (other);

-- Messages for peers that are away. A row is gone as soon as its recipient has received it.
CREATE TABLE discovery.messages (
    id uuid PRIMARY KEY,
    recipient bytea NOT NULL CHECK (octet_length(recipient) = 32),
    sender bytea NOT NULL CHECK (octet_length(sender) = 32),
    -- Sender, content and time, sealed for the recipient.
    body text NOT NULL,
    created_at timestamptz NOT NULL,
    expires_at timestamptz NOT NULL,
    -- The socket that it is being handed to, and for how long nobody else gets it.
    lease uuid,
    leased_until timestamptz
);
CREATE INDEX messages_recipient ON discovery.messages (recipient, id);
CREATE INDEX messages_sender ON discovery.messages (sender);
CREATE INDEX messages_expires_at ON discovery.messages (expires_at);
CREATE INDEX messages_lease ON discovery.messages (lease) WHERE lease IS NOT NULL;

-- The last offer of each peer.
CREATE TABLE discovery.offers (
    peer bytea PRIMARY KEY CHECK (octet_length(peer) = 32),
    -- Sealed for its peer.
    body text NOT NULL,
    expires_at timestamptz NOT NULL
);
CREATE INDEX offers_expires_at ON discovery.offers (expires_at);

-- Sessions of access tokens that a socket was opened with, and those that are known to have ended, for as long as a token of theirs may live.
CREATE TABLE discovery.sessions (
    session uuid PRIMARY KEY,
    peer bytea CHECK (octet_length(peer) = 32),
    ended_at timestamptz,
    kept_until timestamptz NOT NULL
);
CREATE INDEX sessions_kept_until ON discovery.sessions (kept_until);

-- Whose account a peer is, as the end of a session tells it: what is kept of a deleted account is found by this. `deleted_at` stays when the
-- rest is gone, since the end of a session may be told after the deletion.
CREATE TABLE discovery.accounts (
    account uuid PRIMARY KEY,
    peer bytea CHECK (octet_length(peer) = 32),
    deleted_at timestamptz
);

GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA discovery TO orrery_discovery;
