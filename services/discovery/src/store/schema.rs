//! The tables of the schema `discovery`, as `migrations/00000000000040_discovery` makes them.

diesel::table! {
    discovery.peers (peer) {
        peer -> Bytea,
        visibility -> Nullable<Text>,
        changed_at -> Timestamptz,
    }
}

diesel::table! {
    discovery.relations (peer, other) {
        peer -> Bytea,
        other -> Bytea,
        kind -> Text,
        name -> Text,
        created_at -> Timestamptz,
    }
}

diesel::table! {
    discovery.messages (id) {
        id -> Uuid,
        recipient -> Bytea,
        sender -> Bytea,
        body -> Text,
        created_at -> Timestamptz,
        expires_at -> Timestamptz,
        lease -> Nullable<Uuid>,
        leased_until -> Nullable<Timestamptz>,
    }
}

diesel::table! {
    discovery.offers (peer) {
        peer -> Bytea,
        body -> Text,
        expires_at -> Timestamptz,
    }
}

diesel::table! {
    discovery.sessions (session) {
        session -> Uuid,
        peer -> Nullable<Bytea>,
        ended_at -> Nullable<Timestamptz>,
        kept_until -> Timestamptz,
    }
}

diesel::table! {
    discovery.accounts (account) {
        account -> Uuid,
        peer -> Nullable<Bytea>,
        deleted_at -> Nullable<Timestamptz>,
    }
}
