//! The tables of the schema `autha`, as `migrations/00000000000003_autha` makes them.

diesel::table! {
    autha.accounts (id) {
        id -> Uuid,
        vanity -> Text,
        username -> Text,
        email_hash -> Bytea,
        email_normal -> Text,
        email_typed -> Text,
        email_verified_at -> Nullable<Timestamptz>,
        locale -> Text,
        summary -> Nullable<Text>,
        flags -> Int4,
        version -> Int8,
        avatar_upload -> Nullable<Uuid>,
        icon_upload -> Nullable<Uuid>,
        created_at -> Timestamptz,
        suspended_at -> Nullable<Timestamptz>,
        purge_at -> Nullable<Timestamptz>,
    }
}

diesel::table! {
    autha.operators (account) {
        account -> Uuid,
        granted_at -> Timestamptz,
    }
}

diesel::table! {
    autha.tombstones (name_hash) {
        name_hash -> Bytea,
        created_at -> Timestamptz,
    }
}

diesel::table! {
    autha.credentials (id) {
        id -> Uuid,
        account -> Uuid,
        kind -> Text,
        secret -> Text,
        handle -> Nullable<Bytea>,
        label -> Nullable<Text>,
        data -> Nullable<Jsonb>,
        counter -> Int8,
        created_at -> Timestamptz,
        used_at -> Nullable<Timestamptz>,
    }
}

diesel::table! {
    autha.sessions (id) {
        id -> Uuid,
        account -> Uuid,
        client -> Nullable<Uuid>,
        scopes -> Text,
        methods -> Array<Text>,
        device -> Nullable<Text>,
        authenticated_at -> Timestamptz,
        created_at -> Timestamptz,
        used_at -> Timestamptz,
        ended_at -> Nullable<Timestamptz>,
    }
}

diesel::table! {
    autha.refresh_tokens (hash) {
        hash -> Bytea,
        session -> Uuid,
        issued_at -> Timestamptz,
        expires_at -> Timestamptz,
        used_at -> Nullable<Timestamptz>,
        successor -> Nullable<Bytea>,
    }
}

diesel::table! {
    autha.challenges (id) {
        id -> Uuid,
        account -> Nullable<Uuid>,
        purpose -> Text,
        secret_hash -> Bytea,
        data -> Nullable<Text>,
        email_hash -> Nullable<Bytea>,
        uses_left -> Int4,
        created_at -> Timestamptz,
        expires_at -> Timestamptz,
    }
}

diesel::table! {
    autha.public_keys (id) {
        id -> Int8,
        account -> Uuid,
        pem -> Text,
        fingerprint -> Bytea,
        created_at -> Timestamptz,
    }
}

diesel::table! {
    autha.uploads (id) {
        id -> Uuid,
        public -> Uuid,
        account -> Uuid,
        state -> Text,
        object_key -> Text,
        media_type -> Text,
        size_bytes -> Int8,
        digest -> Text,
        code -> Nullable<Text>,
        reason -> Nullable<Text>,
        created_at -> Timestamptz,
        settled_at -> Nullable<Timestamptz>,
    }
}

diesel::table! {
    autha.variants (upload, width, media_type) {
        upload -> Uuid,
        width -> Int4,
        object_key -> Text,
        media_type -> Text,
        size_bytes -> Int8,
    }
}

diesel::table! {
    autha.signing_keys (kid) {
        kid -> Text,
        generation -> Int8,
        sealed -> Text,
        public_jwk -> Jsonb,
        state -> Text,
        created_at -> Timestamptz,
        activated_at -> Nullable<Timestamptz>,
        retired_at -> Nullable<Timestamptz>,
    }
}

diesel::table! {
    autha.idempotency_keys (key_hash) {
        key_hash -> Bytea,
        request -> Bytea,
        answer -> Text,
        created_at -> Timestamptz,
    }
}

diesel::table! {
    autha.audit (id) {
        id -> Uuid,
        at -> Timestamptz,
        action -> Text,
        account -> Nullable<Uuid>,
        actor -> Text,
        subject -> Nullable<Text>,
        detail -> Nullable<Text>,
    }
}

diesel::table! {
    autha.exports (id) {
        id -> Uuid,
        account -> Uuid,
        state -> Text,
        object_key -> Nullable<Text>,
        size_bytes -> Nullable<Int8>,
        attempts -> Int4,
        lease -> Nullable<Uuid>,
        leased_until -> Timestamptz,
        created_at -> Timestamptz,
        ready_at -> Nullable<Timestamptz>,
        expires_at -> Nullable<Timestamptz>,
    }
}

diesel::table! {
    autha.imports (id) {
        id -> Uuid,
        format -> Text,
        digest -> Bytea,
        position -> Int8,
        imported -> Int8,
        left_out -> Int8,
        created_at -> Timestamptz,
        finished_at -> Nullable<Timestamptz>,
    }
}

diesel::table! {
    autha.import_faults (import, record) {
        import -> Uuid,
        record -> Int8,
        code -> Text,
        reason -> Text,
    }
}

diesel::table! {
    autha.deletions (account) {
        account -> Uuid,
        purged_at -> Timestamptz,
        objects -> Array<Text>,
    }
}

diesel::table! {
    autha.deletion_receipts (account, holder) {
        account -> Uuid,
        holder -> Text,
        received_at -> Timestamptz,
    }
}
